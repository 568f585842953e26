"""What a vision stage takes that belongs to no checkpoint."""

from __future__ import annotations

from dataclasses import replace

from engine_build.families.videoitg.mixed_precision import MixedVisionEncoder
from engine_build.triton.__main__ import REFERENCE_FAMILY, REFERENCE_MODEL
from groundserve.families.default_video import default_plan
from groundserve.families.plans import VideoPlan
from groundserve.families.videoitg.vision import VisionEncoder
from groundserve.families.vision_inputs import VisionInputs


def vision_inputs(model: VisionEncoder | MixedVisionEncoder) -> tuple[VisionInputs, VideoPlan]:
    """Return its inputs, and the plan of a usual video with the released model's budget."""
    spec = replace(REFERENCE_MODEL, image_size=model.image_size, side=model.side)
    return VisionInputs.of(REFERENCE_FAMILY, spec), default_plan(REFERENCE_FAMILY, spec)
