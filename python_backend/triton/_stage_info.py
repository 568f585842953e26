"""What the steps of the ensemble pass along beside the tensors: facts, timing, the deadline.

A head of text is told what it must know of the video as well.

The first step's `execute` starts the request's one deadline; the time the request waited for an
instance before that is the server's (its queue policy bounds it) and cannot be seen from here.
The moment is on the clock of `time.monotonic()`, which all processes of a machine share.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from groundserve.answers import GenerationInfo
from groundserve.deadline import Deadline
from groundserve.errors import InvalidRequestError, UnavailableError
from groundserve.families.plans import SeenVideo
from groundserve.strict_json import is_finite_number, parse_object, shown
from groundserve.triton_messages import OTHER_ENGINES
from python_backend.triton._tensors import Tensors, read_text

_DEADLINE = "deadline_monotonic_seconds"
_SEEN = "seen"
_MAX_BYTES = 64 * 1024
"""Of what a step answers: some hundred bytes, a note of the checkpoint's, and twenty for the time
of each frame where the model is told it."""


@dataclass(frozen=True, kw_only=True)
class StageInfo:
    """Everything the steps so far know."""

    facts: dict[str, Any]
    """What INFO says; JSON values only, `timing_ms` among them."""
    deadline: Deadline
    """Of the whole request."""
    seen: SeenVideo | None = None
    """What a head of text must know of the video; None for the other."""

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
        seen = facts.pop(_SEEN, None)
        is_answer = isinstance(timing_ms, dict) and all(map(is_finite_number, timing_ms.values()))
        if not is_answer or not is_finite_number(moment) or not (seen is None or _is_seen(seen)):
            raise InvalidRequestError(f"{name} must be what the step before answered")
        # Never later than a request that begins here could take: the moment may be made up, too.
        at_seconds = min(own_deadline.at_monotonic_seconds, moment)
        return cls(
            facts=facts,
            deadline=replace(own_deadline, at_monotonic_seconds=at_seconds),
            seen=None if seen is None else _to_seen(seen),
        )

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
        return replace(self, facts=facts)

    def with_generation(self, generation: GenerationInfo) -> Self:
        """Return the same with what INFO says of the answers."""
        return replace(self, facts={**self.facts, "generation": generation.to_json()})

    def to_tensor(self) -> NDArray[np.object_]:
        """Return a BYTES tensor (1,) for the next step."""
        seen = {} if self.seen is None else {_SEEN: asdict(self.seen)}
        return _json_tensor({**self.facts, **seen, _DEADLINE: self.deadline.at_monotonic_seconds})

    def to_info(self) -> NDArray[np.object_]:
        """Return a BYTES tensor (1,) for the caller."""
        return _json_tensor(self.facts)


def _json_tensor(value: dict[str, Any]) -> NDArray[np.object_]:
    return np.array([json.dumps(value).encode()], np.object_)


def _is_seen(value: object) -> bool:
    """Tell whether a value of JSON is a `SeenVideo`; what it says its family checks."""
    if not isinstance(value, dict) or value.keys() != {one.name for one in fields(SeenVideo)}:
        return False
    seconds, times = value["time_range_seconds"], value["model_seconds"]
    return (
        is_finite_number(value["duration_seconds"])
        and type(value["num_visual_tokens"]) is int
        and (seconds is None or (_is_numbers(seconds) and len(seconds) == 2))
        and (times is None or _is_numbers(times))
    )


def _to_seen(value: dict[str, Any]) -> SeenVideo:
    # JSON has lists alone.
    values: dict[str, Any] = {
        name: tuple(one) if isinstance(one, list) else one for name, one in value.items()
    }
    return SeenVideo(**values)


def _is_numbers(value: object) -> bool:
    return isinstance(value, list) and all(map(is_finite_number, value))
