"""The vision stage against what the reference computed of the formula video, stage by stage."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from groundserve.errors import UnsupportedError
from groundserve.families.clip import ClipTowerConfig
from groundserve.families.grounded_videollm.internvideo2 import InternVideo2Config
from groundserve.families.grounded_videollm.vision import VisionConfig, VisionEncoder
from tests.support.published import GROUNDED_CLIP, INTERNVIDEO2
from tests.support.rounding import error_bound, exactly, in_float32, rounded
from tests.unit.families.grounded_videollm.checkpoints import (
    FORMULA_STAGES,
    PREFIXES,
    formula_streams,
    opened,
)
from tests.unit.families.grounded_videollm.recorded import LLMS


@cache
def exact_vision(llm: str) -> VisionEncoder:
    """Return the stage in float64, with attention in elementary operations."""
    vision = opened(llm).load_vision(dtype=torch.float64)
    vision.config._attn_implementation = "eager"
    return vision


def recorded(llm: str, stage: str) -> Tensor:
    """Return a recorded stage of the first segment, in float64."""
    return FORMULA_STAGES[f"{PREFIXES[llm]}.{stage}"].double()


@pytest.mark.parametrize("llm", LLMS)
def test_the_spatial_tower_is_the_references_up_to_the_last_layer_but_one(llm):
    exact, bound = in_float32(exact_vision(llm)._encode_key_frames, formula_streams(1)[1])
    error = np.abs(exact[0] - recorded(llm, "clip_hidden_minus2.seg0")[1:].numpy()).max()
    assert error <= bound
    assert bound < 1e-4


def test_the_temporal_tower_is_the_references_up_to_the_last_block_but_one():
    tower = exact_vision("phi3.5").internvideo2
    temporal, _ = formula_streams(1)
    exact = exactly(tower, temporal)
    # One draw: it takes as long as all other tests here.
    bound = error_bound(exact, [rounded(tower, temporal, seed=0)])
    expected = FORMULA_STAGES["internvideo2_output.seg0_cls_and_frame0"][1:].numpy()
    assert np.abs(exact[0, : 16 * 16] - expected).max() <= bound
    assert bound < 1e-4
    pooled = exact.reshape(8, 4, 4, 4, 4, 32).mean((2, 4)).reshape(128, 32)
    expected = recorded("phi3.5", "temporal_pooled.seg0").numpy()
    assert np.abs(pooled - expected).max() <= bound


@pytest.mark.parametrize("llm", LLMS)
def test_a_segments_tokens_are_the_references(llm):
    """Of recorded patches: reduced, with separators, projected, in the order of the block."""
    vision = exact_vision(llm)
    patches = recorded(llm, "clip_hidden_minus2.seg0")[1:]
    pooled = recorded(llm, "temporal_pooled.seg0")

    def block() -> Tensor:
        spatial, terminator = vision.spatial(patches[None])
        temporal = vision.temporal_projector(pooled[None])
        return torch.cat((spatial, temporal, terminator), dim=1)[0]

    exact, bound = in_float32(block)
    expected = recorded(llm, "visual_tokens.seg0").numpy()
    assert exact.shape == expected.shape
    assert np.abs(exact - expected).max() <= bound
    assert bound < 1e-4


@pytest.mark.parametrize("llm", LLMS)
def test_what_is_exported_and_what_a_gpu_runs_give_the_same(llm):
    vision = opened(llm).load_vision()
    streams = formula_streams(2)
    with torch.inference_mode():
        expected = vision(*streams)
        vision.config._attn_implementation = "eager"
        vision.prepare_export()
        vision.leave_out_unread()
        found = vision(*streams)
    # The roundings of other orders of sums, with values up to 7.
    assert (found - expected).abs().max() < 5e-5


@pytest.mark.parametrize(
    ("llm", "clip_side", "side", "message"),
    [
        ("phi3.5", 23, 16, "the part clip must have a multiple of 2 patches a side, got 23"),
        ("llama3", 25, 16, "the part clip must have a multiple of 3 patches a side, got 25"),
        ("phi3.5", 24, 18, "the part internvideo must have a multiple of 4 patches a side, got 18"),
    ],
)
def test_towers_whose_patches_do_not_divide_are_refused(llm, clip_side, side, message):
    clip = {**vars(GROUNDED_CLIP), "image_size": clip_side * 14}
    internvideo2 = {**vars(INTERNVIDEO2), "side": side}
    with pytest.raises(UnsupportedError, match=message):
        VisionConfig(
            llm=llm,
            clip=ClipTowerConfig(**clip),
            internvideo2=InternVideo2Config(**internvideo2),
            hidden_size=64,
        )
