"""What decides annotations beside models and prompts, and the stages that ask a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from groundserve.errors import InvalidRequestError

Choice = Literal["paper", "script", "all"]
"""How frames are chosen for the last stage: as the paper's text has it, as the script beside the
data has it, or all of the retrieved clips."""
Stage = Literal[
    "propose", "phrase", "caption", "retrieve", "type", "motion", "existence", "localise"
]
"""Each has its prompt, and may have an endpoint of its own."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How a video is shown, and its frames chosen."""

    choice: Choice = "paper"
    longest_side: int = 768
    """Pixels that the longer side of a picture is shrunk to."""
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

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if type(value) is int and value < 1:
                raise InvalidRequestError(f"{name} must be >= 1, got {value}")
