"""What the steps of the ensemble pass along beside the tensors: facts, timing, the deadline.

The first step's `execute` starts the request's one deadline; the time the request waited for an
instance before that is the server's (its queue policy bounds it) and cannot be seen from here.
The moment is on the clock of `time.monotonic()`, which all processes of a machine share.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from groundserve.deadline import Deadline
from groundserve.errors import InvalidRequestError
from python_backend.triton._tensors import Tensors

_DEADLINE = "deadline_monotonic_seconds"


@dataclass(frozen=True, kw_only=True)
class StageInfo:
    """Everything the steps so far know."""

    facts: dict[str, Any]
    """What INFO says; JSON values only, `timing_ms` among them."""
    deadline: Deadline
    """Of the whole request."""

    @classmethod
    def read(cls, tensors: Tensors, name: str, own_deadline: Deadline) -> Self:
        """Read what the step before answered.

        Args:
            tensors: A request's.
            name: Which of them.
            own_deadline: What this step would allow a request that began here; the earlier counts.

        Raises:
            InvalidRequestError: The tensor is not what a step answers; only a caller of an inner
                model can make that happen.
        """
        try:
            facts = json.loads(tensors[name][0])
            moment = float(facts.pop(_DEADLINE, own_deadline.at_monotonic_seconds))
            at_seconds = min(own_deadline.at_monotonic_seconds, moment)
            facts["timing_ms"] = dict(facts["timing_ms"])
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            raise InvalidRequestError(f"{name} must be what the step before answered") from error
        return cls(facts=facts, deadline=replace(own_deadline, at_monotonic_seconds=at_seconds))

    def with_timing(self, timing_ms: dict[str, float]) -> Self:
        """Return the same with the milliseconds of one more step."""
        facts = {**self.facts, "timing_ms": {**self.facts["timing_ms"], **timing_ms}}
        return type(self)(facts=facts, deadline=self.deadline)

    def to_tensor(self) -> NDArray[np.object_]:
        """Return a BYTES tensor (1,) for the next step."""
        return _json_tensor({**self.facts, _DEADLINE: self.deadline.at_monotonic_seconds})

    def to_info(self) -> NDArray[np.object_]:
        """Return a BYTES tensor (1,) for the caller."""
        return _json_tensor(self.facts)


def _json_tensor(value: dict[str, Any]) -> NDArray[np.object_]:
    return np.array([json.dumps(value).encode()], np.object_)
