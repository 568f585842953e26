"""The vision stage against what the reference computed of the formula video, stage by stage."""

from __future__ import annotations

import pytest
import torch

from groundserve.errors import UnsupportedError
from groundserve.families.clip import ClipTowerConfig
from groundserve.families.grounded_videollm.internvideo2 import InternVideo2Config
from groundserve.families.grounded_videollm.vision import VisionConfig
from tests.support.published import GROUNDED_CLIP, INTERNVIDEO2
from tests.unit.families.grounded_videollm.checkpoints import (
    formula_streams,
    opened,
)
from tests.unit.families.grounded_videollm.recorded import LLMS


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
    internvideo2 = {**vars(INTERNVIDEO2), "image_size": side * 14}
    with pytest.raises(UnsupportedError, match=message):
        VisionConfig(
            llm=llm,
            clip=ClipTowerConfig(**clip),
            internvideo2=InternVideo2Config(**internvideo2),
            hidden_size=64,
        )
