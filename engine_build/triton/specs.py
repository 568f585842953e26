"""The Triton models that serve one model: the trunk of all families and a head.

docs/architecture.md follows a request through them.
"""

from __future__ import annotations

from typing import Any

from engine_build.triton import frames_head, text_head, trunk
from engine_build.triton.layout import RepositoryLayout
from engine_build.triton.model_spec import TensorSpec, TritonModelSpec
from groundserve.families.base import Family, ModelSpec
from groundserve.families.default_video import default_plan
from groundserve.families.vision_inputs import VisionInputs


def model_specs(
    layout: RepositoryLayout, family: Family[Any, Any], model: ModelSpec
) -> list[TritonModelSpec]:
    """Return the models of an engine directory, the public one first."""
    inputs = VisionInputs.of(family, model)
    layout = layout.of_model(family, model)
    features = TensorSpec("FEATURES", layout.features_type, (-1, -1, model.feature_width))
    outputs: tuple[TensorSpec, ...]
    if family.head == "frames":
        outputs, head = frames_head.OUTPUTS, frames_head.grounding(layout, features)
    else:
        outputs, head = text_head.OUTPUTS, text_head.generation(layout, features)
    front = trunk.front(layout, outputs)
    return [
        TritonModelSpec(name=family.name, inputs=trunk.INPUTS, outputs=outputs, steps=(front,)),
        front,
        *([trunk.front_stream(front)] if family.head == "text" else []),
        trunk.video_decode(layout, inputs),
        trunk.vision_encoder(layout, inputs, features, default_plan(family, model)),
        head,
    ]
