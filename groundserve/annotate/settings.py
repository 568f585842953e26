"""All settings of a run of annotations; small, so that they travel to the workers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

from groundserve.annotate.prompts import Prompts, digest
from groundserve.annotate.replies import MODELS
from groundserve.annotate.rules import Rules, Stage
from groundserve.batch.engines import EngineSource
from groundserve.data_record import CLIP_SECONDS
from groundserve.errors import InvalidRequestError
from groundserve.evaluation.qa.endpoint_options import EndpointOptions

STAGES: tuple[Stage, ...] = get_args(Stage)
_MAX_TOKENS: dict[Stage, int] = {"retrieve": 2048, "caption": 256}
"""Of a reply; 64 of the other stages'. A list of all clips of a long video takes 1,400."""
_TOKENS_EACH = 64
"""Beside 256, of one verdict with its reason; twice as many of a question with its answer."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is asked of whom, and how fast."""

    rules: Rules
    prompts: Prompts
    endpoints: Mapping[Stage, tuple[EndpointOptions, ...]]
    """Of one model in each stage; calls are shared out among several."""
    sends_video: bool = False
    """Whether a clip is shown as a video, as the gateway wants it, and not as pictures."""
    verifier: EngineSource | None = None
    """The second grounder."""
    verifier_id: str = ""
    """What its engines are called."""
    concurrency: int = 4
    """Calls at one time in each worker."""
    calls_per_minute: float | None = None
    """Of each worker; None: as fast as they come."""

    def __post_init__(self) -> None:
        rate = self.calls_per_minute
        if self.concurrency < 1 or (rate is not None and not 0 < rate < float("inf")):
            raise InvalidRequestError(
                "--concurrency must be at least --workers, and --calls-per-minute > 0 and finite"
            )

    def request(self, stage: Stage, content: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the body of a stage's request."""
        return self.endpoints[stage][0].request(content, **self.fields(stage))

    def fields(self, stage: Stage) -> dict[str, Any]:
        """Return what a stage's requests have beside the model and the message."""
        by_count: dict[Stage, int] = {
            "propose": 256 + 2 * _TOKENS_EACH * self.rules.proposals,
            "localise": 256 + _TOKENS_EACH * self.rules.frames_per_call,
        }
        fields: dict[str, Any] = {"max_tokens": {**_MAX_TOKENS, **by_count}.get(stage, 64)}
        if not (self.sends_video and stage == "caption"):
            fields["top_p"] = 0.1  # which the gateway refuses beside a temperature of 0
        if stage in MODELS:
            schema = {"name": stage, "strict": True, "schema": MODELS[stage].model_json_schema()}
            fields["response_format"] = {"type": "json_schema", "json_schema": schema}
        return fields

    @property
    def contract(self) -> dict[str, str | float]:
        """What decides annotations, by name: a run is of one contract."""
        requests = {stage: self.request(stage, []) for stage in STAGES}
        return {
            **{f"model of {stage}": request.pop("model") for stage, request in requests.items()},
            **{f"sampling of {it}": digest(json.dumps(one)) for it, one in requests.items()},
            **{f"prompt {name}": digest(text) for name, text in self.prompts.items()},
            **{name.replace("_", "-"): value for name, value in asdict(self.rules).items()},
            "send-video": self.sends_video,
            "clip-seconds": CLIP_SECONDS,
            "second grounder": self.verifier_id,
        }

    @property
    def identity(self) -> dict[str, Any]:
        """What a run's fingerprint calls its engines."""
        models = dict.fromkeys(str(one[0].model) for one in self.endpoints.values())
        name = digest(json.dumps(self.contract, sort_keys=True))
        return {"id": name, "checkpoint": ", ".join(models), "family": "annotate", "precision": ""}


def by_stage(values: Sequence[str], option: str) -> dict[Stage, list[str]]:
    """Read VALUE for all stages, or STAGE,STAGE=VALUE for some, which comes before.

    Raises:
        InvalidRequestError: A stage is left without a value.
    """
    found: dict[str, list[str]] = {}
    for value in values:
        names, separator, rest = value.partition("=")
        is_own = bool(separator) and set(names.split(",")) <= set(STAGES)
        for name in names.split(",") if is_own else [""]:
            found.setdefault(name, []).append(rest if is_own else value)
    if missing := [stage for stage in STAGES if not found.get(stage, found.get(""))]:
        raise InvalidRequestError(
            f"{option} says nothing for {', '.join(missing)}; give one without stages, for all"
        )
    return {stage: found.get(stage) or found[""] for stage in STAGES}


def one_by_stage(values: Sequence[str], option: str) -> dict[Stage, str]:
    """Read as `by_stage` does what each stage has one of; InvalidRequestError where it has more."""
    found = by_stage(values, option)
    for stage, names in found.items():
        if len(names) > 1:
            raise InvalidRequestError(
                f"{option} says {' and '.join(names)} for {stage}; give one, for all of its "
                "endpoints"
            )
    return {stage: names[0] for stage, names in found.items()}
