"""The Triton models that serve one model: the trunk of all families and a head.

docs/architecture.md follows a request through them.
"""

from __future__ import annotations

from typing import Any

from engine_build.triton import frames_head, trunk
from engine_build.triton.layout import RepositoryLayout
from engine_build.triton.model_spec import TensorSpec, TritonModelSpec
from groundserve.families.base import FramesFamily, ModelSpec
from groundserve.families.default_video import default_plan
from groundserve.families.vision_inputs import VisionInputs


def model_specs(
    layout: RepositoryLayout, family: FramesFamily[Any, Any], model: ModelSpec
) -> list[TritonModelSpec]:
    """Return the models of an engine directory, the public one first.

    Args:
        layout: The profile and the machine.
        family: Of the model.
        model: Its dimensions, the family's `spec_type`.

    Raises:
        UnsupportedError: The family's frames are not one stream.
    """
    inputs = VisionInputs.of(family, model)
    features = TensorSpec("FEATURES", layout.features_type, (-1, -1, model.feature_width))
    admission = trunk.admission()
    video_features = trunk.video_features(layout, features)
    grounding = frames_head.grounding(layout, features)
    frame_selector = frames_head.frame_selector()
    return [
        frames_head.ensemble(family.name, (admission, video_features, grounding, frame_selector)),
        admission,
        video_features,
        trunk.video_decode(layout, inputs),
        trunk.vision_encoder(layout, inputs, features, default_plan(family, model)),
        grounding,
        frame_selector,
    ]
