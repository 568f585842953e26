"""All settings of a run of annotations; small, so that they travel to the workers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from groundserve.annotate.prompts import Prompts
from groundserve.annotate.replies import response_format
from groundserve.annotate.rules import Rules, Stage
from groundserve.batch.engines import EngineSource
from groundserve.data_record import CLIP_SECONDS
from groundserve.errors import InvalidRequestError
from groundserve.evaluation.qa.endpoint_options import EndpointOptions

Sends = Literal["frames", "video"]
"""Whether clips are shown as pictures, or as a video, as the gateway wants them."""
MAX_TOKENS: Mapping[Stage, int] = {
    "propose": 2048,
    "phrase": 64,
    "caption": 256,
    "retrieve": 512,
    "type": 32,
    "motion": 32,
    "existence": 32,
    "motion_clips": 512,
    "localise": 1024,
}
"""Of a reply."""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """Whom a stage asks."""

    endpoints: tuple[EndpointOptions, ...]
    """Of one model; calls are shared out among them."""
    sends: Sends = "frames"
    has_schema: bool = True
    """Whether the JSON that is wanted is described to the endpoint, too (`response_format`)."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is asked of whom, and how fast."""

    rules: Rules
    prompts: Prompts
    asked: Mapping[Stage, Asking]
    verifier: EngineSource | None = None
    """The second grounder."""
    verifier_id: str = ""
    """What its engines are called."""
    concurrency: int = 4
    """Calls at one time in each worker."""
    calls_per_minute: float | None = None
    """Of each worker; None: as fast as they come."""

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise InvalidRequestError(f"--concurrency must be >= 1, got {self.concurrency}")
        rate = self.calls_per_minute
        if rate is not None and not 0 < rate < float("inf"):
            raise InvalidRequestError(f"--calls-per-minute must be > 0 and finite, got {rate:g}")
        for stage in ("propose", "localise"):
            if self.asked[stage].sends == "video":
                raise InvalidRequestError(
                    f"the stage {stage} shows single frames; send video (--sends) to the stage "
                    "caption alone, as in --sends caption=video"
                )

    def shared_by(self, num_workers: int) -> Settings:
        """Return what one of several workers may do: its part of calls and of calls a minute."""
        rate = self.calls_per_minute
        if num_workers > self.concurrency:
            raise InvalidRequestError(
                f"--workers {num_workers} share --concurrency {self.concurrency}, which must be "
                "as many at least"
            )
        return replace(
            self,
            concurrency=self.concurrency // num_workers,
            calls_per_minute=None if rate is None else rate / num_workers,
        )

    def fields(self, stage: Stage) -> dict[str, Any]:
        """Return the fields of a stage's requests, beside the model and the message."""
        schema = response_format(stage) if self.asked[stage].has_schema else None
        return {"top_p": 0.1, "max_tokens": MAX_TOKENS[stage], "response_format": schema}

    @property
    def contract(self) -> dict[str, str | float]:
        """What decides annotations, by name: a run is of one contract."""
        models: dict[str, str | float] = {}
        for stage in get_args(Stage):
            asking = self.asked[stage]
            request = asking.endpoints[0].request([], **self.fields(stage))
            models[f"model of {stage}"] = request.pop("model")
            models[f"sampling of {stage}"] = _digest([request, asking.sends])
        rules = {name.replace("_", "-"): value for name, value in asdict(self.rules).items()}
        return {
            **models,
            **self.prompts.digests(),
            **rules,
            "clip-seconds": CLIP_SECONDS,
            "second grounder": self.verifier_id,
        }

    @property
    def identity(self) -> dict[str, Any]:
        """What a run's fingerprint calls its engines."""
        models = dict.fromkeys(one.endpoints[0].model for one in self.asked.values())
        return {
            "id": _digest(self.contract),
            "checkpoint": ", ".join(models),
            "family": "annotate",
            "precision": "",
        }


def by_stage(values: Sequence[str], option: str) -> dict[Stage, list[str]]:
    """Read VALUE for all stages, or STAGE,STAGE=VALUE for some, which comes before.

    Raises:
        InvalidRequestError: A stage is left without a value.
    """
    stages: tuple[Stage, ...] = get_args(Stage)
    common: list[str] = []
    own: dict[Stage, list[str]] = {}
    for value in values:
        names, separator, rest = value.partition("=")
        named = [stage for stage in stages if stage in names.split(",")]
        if separator and len(named) == len(names.split(",")):
            for stage in named:
                own.setdefault(stage, []).append(rest)
        else:
            common.append(value)
    found = {stage: own.get(stage, common) for stage in stages}
    if missing := [stage for stage in stages if not found[stage]]:
        raise InvalidRequestError(
            f"{option} says nothing for {', '.join(missing)}; give one without stages, for all"
        )
    return found


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
