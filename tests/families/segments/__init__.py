"""A family of two streams: VTimeLLM's decoder, behind segments of eight frames and a key frame.

Its features are sums of whole numbers, which float32 holds exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from groundserve.errors import InvalidRequestError
from groundserve.families.base import TextFamily
from groundserve.families.plans import DEFAULT_LIMITS, FrameStream, PlanInput, VideoPlan, units_of
from groundserve.families.vtimellm import VTimeLLM

if TYPE_CHECKING:
    from groundserve.families.segments.checkpoint import SegmentsCheckpoint

NUM_UNITS, NUM_FRAMES, KEY = 12, 8, 4
CLIP_SIZE, KEY_SIZE = 8, 16
SCALE = 0.5


@dataclass(frozen=True, kw_only=True)
class SegmentsSpec:
    max_tokens: int | None
    hidden_size: int
    end_token_id: int
    feature_width: int = NUM_FRAMES
    max_feature_tokens: int = 2 * NUM_UNITS


class SegmentsFamily(VTimeLLM):
    name = "segments"
    spec_type = SegmentsSpec

    def streams(self, spec):
        return (
            FrameStream(
                name="CLIPS", size=CLIP_SIZE, resize="short_side", frames=tuple(range(NUM_FRAMES))
            ),
            FrameStream(name="KEYS", size=KEY_SIZE, frames=(KEY,)),
        )

    def plan_inputs(self, spec):
        return (
            PlanInput(name="ORDINALS", dims=(-1,), max_dims=(NUM_FRAMES,), of_units=True),
            PlanInput(name="SCALE", dims=(1,), max_dims=(1,)),
        )

    def plan(self, index, options, spec, limits=DEFAULT_LIMITS):
        """Take the first 96 frames, the last again and again where there are fewer.

        The ordinals of a segment are told, of a short video those of its first five frames alone.
        """
        num_sampled = NUM_UNITS * NUM_FRAMES
        frame_indices = np.minimum(np.arange(num_sampled), index.num_source_frames - 1)
        num_told = NUM_FRAMES if index.num_source_frames >= num_sampled else 5
        told = frame_indices.reshape(NUM_UNITS, NUM_FRAMES)[:, :num_told]
        return VideoPlan(
            index=index,
            num_frames=num_sampled,
            frame_indices=frame_indices,
            units=units_of(frame_indices, frames_per_unit=NUM_FRAMES),
            num_visual_tokens=spec.max_feature_tokens,
            inputs={"ORDINALS": told.astype(np.float32), "SCALE": np.array([SCALE], np.float32)},
            time_range_seconds=(0.0, index.duration_seconds),
        )

    def check_features(self, shape, spec, limits=DEFAULT_LIMITS):
        if shape[:2] != (NUM_UNITS, 2):
            raise InvalidRequestError(f"FEATURES must be ({NUM_UNITS}, 2, D), got {shape}")

    def check_seen(self, seen, spec):
        if seen.num_visual_tokens != spec.max_feature_tokens:
            raise InvalidRequestError(f"num_visual_tokens must be {spec.max_feature_tokens}")

    def recognises(self, directory):
        return False

    def open_checkpoint(self, path, *, parts=None) -> SegmentsCheckpoint:
        from groundserve.families.segments.checkpoint import SegmentsCheckpoint

        return SegmentsCheckpoint.open(path, parts=parts or {})

    def describe(self, facts):
        return "two tokens a segment"


FAMILY: TextFamily[SegmentsSpec] = SegmentsFamily()
