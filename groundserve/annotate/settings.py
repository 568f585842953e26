"""All settings of a run of annotations; small, so that they travel to the workers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from groundserve.annotate.prompts import Prompts, Stage, digest
from groundserve.annotate.replies import MODELS
from groundserve.batch.engines import EngineSource
from groundserve.data_record import CLIP_SECONDS
from groundserve.errors import InvalidRequestError
from groundserve.evaluation.qa.endpoint_options import EndpointOptions

Choice = Literal["paper", "script", "all"]
"""How frames are chosen for the last stage: as the paper's text has it, as the script beside the
data has it, or all of the retrieved clips."""
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How a video is shown, and its frames chosen."""

    choice: Choice = "paper"
    longest_side: int = 768
    """>= 1, as the other whole numbers: pixels that the longer side of a picture is shrunk to."""
    frames_per_call: int = 16
    """Candidates that one request of the last stage shows; 1 is the paper's formula."""
    proposals: int = 10
    """Questions that are proposed for a video without any."""
    clip_model: str = "openai/clip-vit-large-patch14-336"
    """Whose class tokens say how alike frames are: a directory or a hub id."""
    scene_threshold: float = 0.90
    """Frames that are less alike than this begin a scene."""
    diversity_threshold: float = 0.97
    """Of the script: frames that are less alike than this differ."""


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
    """Calls at one time in each worker, >= 1."""
    calls_per_minute: float | None = None
    """Of each worker, > 0; None: as fast as they come."""

    def request(self, stage: Stage, content: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the body of a stage's request."""
        return self.endpoints[stage][0].request(content, **self.fields(stage))

    def fields(self, stage: Stage) -> dict[str, Any]:
        """Return what a stage's requests have beside the model and the message."""
        most: dict[Stage, int] = {
            "caption": 256,
            "retrieve": 2048,  # a list of all clips of a long video takes 1,400
            "localise": 256 + 64 * self.rules.frames_per_call,
            "propose": 256 + 128 * self.rules.proposals,
        }
        fields: dict[str, Any] = {"max_tokens": most.get(stage, 64)}
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
    usual: list[str] = []
    own: dict[str, list[str]] = {}
    for value in values:
        names, _, rest = value.partition("=")
        if set(names.split(",")) <= set(STAGES):
            for name in names.split(","):
                own.setdefault(name, []).append(rest)
        else:
            usual.append(value)
    if missing := [stage for stage in STAGES if not own.get(stage, usual)]:
        raise InvalidRequestError(
            f"{option} says nothing for {', '.join(missing)}; give one without stages, for all"
        )
    return {stage: own.get(stage, usual) for stage in STAGES}


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
