"""Run each stage once before the first request: kernels load, workspaces and plans are made.

On a GPU the first pass of a size takes seconds longer than the next; on a CPU it does not.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from groundserve.engines.manifest import Manifest
from groundserve.families.default_video import default_plan
from groundserve.families.vision_inputs import VisionInputs, take_units
from groundserve.options import AnswerOptions
from groundserve.runtime.deadline import Deadline
from python_backend.encode import VisionEncoder
from python_backend.ground import Grounder
from python_backend.heads import TextHead
from python_backend.meter import Counts

_NUM_TEXT_TOKENS = 100


def warm_up_encoder(encoder: VisionEncoder, manifest: Manifest) -> None:
    """Encode as many units as one call takes, of a usual video."""
    inputs = VisionInputs.of(manifest.seam, manifest.model)
    plan = default_plan(manifest.seam, manifest.model)
    index = plan.index
    num_units = inputs.chunk_units(index.width, index.height)
    frames = [np.zeros((num_units, *shape), np.uint8) for shape in inputs.unit_shapes(index)]
    # Of a plan with fewer units than one call takes, those again and again.
    units = np.arange(num_units) % len(plan.units)
    encoder.encode(*frames, *take_units(inputs.of_plan(plan), units))


def warm_up_grounder(grounder: Grounder, manifest: Manifest) -> None:
    """Score a usual video for a question of usual length."""
    model = manifest.model
    plan = default_plan(manifest.seam, model)
    num_units, num_visual = len(plan.units), plan.num_visual_tokens
    features = np.zeros((num_units, num_visual // num_units, model.feature_width), np.float32)
    # The checkpoint's maximum may leave less room for text beside the visual tokens.
    room = (model.max_tokens or num_visual + _NUM_TEXT_TOKENS) - num_visual
    grounder.ground(features, np.zeros(min(_NUM_TEXT_TOKENS, max(1, room)), np.int64))


def warm_up_text_head(head: TextHead, manifest: Manifest) -> None:
    """Ask about a usual video, for two tokens: a prompt's pass and a token's differ in size."""
    model, plan = manifest.model, default_plan(manifest.seam, manifest.model)
    num_units = len(plan.units)
    # By the tokens of a unit in FEATURES; the video's block may have fewer.
    shape = (num_units, model.max_feature_tokens // num_units, model.feature_width)
    # Raw: a task's own wording may want no question.
    options = AnswerOptions(task=head.family.tasks[0], raw=True, max_new_tokens=2)
    replace(head, meter=Counts()).answer(
        np.zeros(shape, np.float32),
        head.parse(["When?"], options),
        plan.seen,
        deadline=Deadline.after(head.limits.max_request_seconds),
    )
