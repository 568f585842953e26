"""Run each stage once before the first request: kernels load, workspaces and plans are made.

On a GPU the first pass of a size takes seconds longer than the next; on a CPU it does not.
"""

from __future__ import annotations

import numpy as np

from groundserve.families.default_video import default_plan
from groundserve.families.vision_inputs import VisionInputs
from groundserve.manifest import Manifest
from python_backend.encode import VisionEncoder
from python_backend.ground import Grounder

_NUM_TEXT_TOKENS = 100


def warm_up_encoder(encoder: VisionEncoder, manifest: Manifest) -> None:
    """Encode as many units as one call takes, of a usual video."""
    inputs = VisionInputs.of(manifest.seam, manifest.model)
    plan = default_plan(manifest.seam, manifest.model)
    index = plan.index
    num_units = inputs.chunk_frames(index.width, index.height)
    frames = np.zeros(inputs.shape(num_units, index), np.uint8)
    encoder.encode(frames, *inputs.of_plan(plan))


def warm_up_grounder(grounder: Grounder, manifest: Manifest) -> None:
    """Score a usual video for a question of usual length."""
    model = manifest.model
    plan = default_plan(manifest.seam, model)
    num_units, num_visual = len(plan.units), plan.num_visual_tokens
    features = np.zeros((num_units, num_visual // num_units, model.feature_width), np.float32)
    # The checkpoint's maximum may leave less room for text beside the visual tokens.
    room = (model.max_tokens or num_visual + _NUM_TEXT_TOKENS) - num_visual
    grounder.ground(features, np.zeros(min(_NUM_TEXT_TOKENS, max(1, room)), np.int64))
