"""The toy as a family: one logit a frame."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError, MissingExtraError
from groundserve.families.base import Head
from groundserve.families.plans import DEFAULT_LIMITS, FrameStream, PlanInput, VideoPlan, units_of
from groundserve.families.toy.spec import ToySpec
from groundserve.limits import Limits
from groundserve.media.index import VideoIndex
from groundserve.options import ScoreOptions

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from groundserve.families.toy.checkpoint import ToyCheckpoint

END_TOKEN = "[END]"
"""Ends every question, so that an empty one has a token, too."""


class Toy:
    """See `groundserve.families.base.FramesFamily`."""

    name = "toy"
    head: Head = "frames"
    spec_type = ToySpec

    def streams(self, spec: ToySpec) -> tuple[FrameStream, ...]:
        """Return FRAMES: the middle square of every frame."""
        return (FrameStream(name="FRAMES", size=spec.image_size, resize="short_side"),)

    def plan_inputs(self, spec: ToySpec) -> tuple[PlanInput, ...]:
        """Return none: pixels are all that the vision stage takes."""
        return ()

    def plan(
        self,
        index: VideoIndex,
        options: ScoreOptions,
        spec: ToySpec,
        limits: Limits = DEFAULT_LIMITS,
    ) -> VideoPlan:
        """Sample frames 0, k, 2k, ...; those past the ceiling are left out.

        Raises:
            InvalidRequestError: An option that has no meaning here, or more frames than there are
                tokens.
        """
        usual = ScoreOptions()
        for name in ("sampling", "sample_fps", "seek"):
            if getattr(options, name) != getattr(usual, name):
                raise InvalidRequestError(
                    f"{name} must be left out: a toy model takes every "
                    f"{spec.frame_stride} frames one, got {getattr(options, name)!r}"
                )
        if options.num_frames is not None and options.num_frames > spec.max_frames:
            raise InvalidRequestError(
                f"num_frames must be at most {spec.max_frames} with this checkpoint, "
                f"got {options.num_frames}"
            )
        num_frames = options.num_frames or min(spec.max_frames, limits.max_num_frames)
        frame_indices = np.arange(0, index.num_source_frames, spec.frame_stride)[:num_frames]
        return VideoPlan(
            index=index,
            num_frames=num_frames,
            frame_indices=frame_indices,
            units=units_of(frame_indices),
            num_visual_tokens=len(frame_indices),
            facts={"frame_stride": spec.frame_stride},
        )

    def check_features(
        self, shape: tuple[int, ...], spec: ToySpec, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        """Check FEATURES (T, 1, D).

        Raises:
            InvalidRequestError: There are more frames or tokens than the vision stage gives.
        """
        num_frames, num_tokens, _ = shape
        max_frames = min(spec.max_frames, limits.max_num_frames)
        if num_tokens != 1 or not 1 <= num_frames <= max_frames:
            raise InvalidRequestError(
                f"FEATURES (T, P, D) must have P = 1 and T from 1 to {max_frames}, got {shape}"
            )

    def open_tokenizer(self, path: Path, spec: ToySpec) -> ToyTokenizer:
        """See `groundserve.families.base.FramesFamily.open_tokenizer`."""
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise MissingExtraError("serve", "tokenizers") from error
        return ToyTokenizer(Tokenizer.from_file(str(path)))

    def recognises(self, raw_config: Mapping[str, Any]) -> bool:
        """Tell whether a config.json is a toy's."""
        return raw_config.get("model_type") == self.name

    def open_checkpoint(
        self, path: str | Path, *, vision_tower: str | Path | None = None
    ) -> ToyCheckpoint:
        """Open a local directory.

        Raises:
            InvalidRequestError: A file is missing, or there is a vision tower, which a toy has not.
        """
        try:
            from groundserve.families.toy.checkpoint import ToyCheckpoint
        except ImportError as error:
            raise MissingExtraError("build", error.name or "torch") from error
        if vision_tower is not None:
            raise InvalidRequestError("a toy checkpoint has no vision tower; leave it out")
        return ToyCheckpoint.open(path)

    def describe(self, facts: Mapping[str, int]) -> str:
        """Say which frames they are."""
        return f"one token each, every {facts['frame_stride']} frames one"


class ToyTokenizer:
    """See `groundserve.families.base.QueryTokenizer`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def text_ids(self, query: str) -> NDArray[np.int64]:
        """Return the question's words and the end token."""
        encoding = self._tokenizer.encode(query + END_TOKEN, add_special_tokens=False)
        return np.array(encoding.ids, np.int64)
