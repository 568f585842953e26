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
from groundserve.errors import InvalidRequestError, UnavailableError
from groundserve.strict_json import is_finite_number, parse_object, shown
from groundserve.triton_messages import OTHER_ENGINES
from python_backend.triton._tensors import Tensors, read_text

_DEADLINE = "deadline_monotonic_seconds"
_MAX_BYTES = 64 * 1024
"""Of what a step answers: some hundred bytes, and a note of the checkpoint's."""


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
        facts = parse_object(read_text(tensors, name, max_bytes=_MAX_BYTES), name)
        # Absent where somebody else than our own step wrote the facts.
        moment = facts.pop(_DEADLINE, own_deadline.at_monotonic_seconds)
        timing_ms = facts.get("timing_ms")
        is_answer = isinstance(timing_ms, dict) and all(map(is_finite_number, timing_ms.values()))
        if not is_answer or not is_finite_number(moment):
            raise InvalidRequestError(f"{name} must be what the step before answered")
        # Never later than a request that begins here could take: the moment may be made up, too.
        at_seconds = min(own_deadline.at_monotonic_seconds, moment)
        return cls(facts=facts, deadline=replace(own_deadline, at_monotonic_seconds=at_seconds))

    def check_engine(self, engine_id: str) -> None:
        """Check that the steps so far ran on these engines; after a switch they may not have.

        Raises:
            UnavailableError: They ran on others.
        """
        engine = self.facts.get("engine")
        other_id = engine.get("id", engine_id) if isinstance(engine, dict) else engine_id
        if other_id != engine_id:
            raise UnavailableError(
                f"the features are of the engines {shown(other_id)}, this server has {engine_id}: "
                f"{OTHER_ENGINES}"
            )

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
