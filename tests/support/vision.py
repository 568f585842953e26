"""What the vision stage of a VideoITG checkpoint takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engine_build.triton.__main__ import REFERENCE_FAMILY, REFERENCE_MODEL
from groundserve.families.default_video import default_plan
from groundserve.families.plans import VideoPlan
from groundserve.families.vision_inputs import VisionInputs


def vision_inputs(model: Any) -> tuple[VisionInputs, VideoPlan]:
    """Return its inputs, and the plan of a usual video with the released model's budget."""
    spec = replace(REFERENCE_MODEL, image_size=model.image_size, side=model.side)
    return VisionInputs.of(REFERENCE_FAMILY, spec), default_plan(REFERENCE_FAMILY, spec)
