"""The gate's largest request is the pass that TensorRT-LLM's kernels are chosen for."""

from __future__ import annotations

import pytest

from groundserve.families.videoitg import FAMILY
from groundserve.families.videoitg.spec import VideoITGSpec
from groundserve.scoring.noise import usual_request


@pytest.mark.parametrize(
    ("max_length", "num_frames", "grid", "num_tokens"),
    [
        # 64 frames of 16 x 16 tokens fill the released model's budget of 16,384.
        pytest.param(20480, 64, 16, 17408, id="released"),
        pytest.param(None, 64, 16, 17408, id="no_limit_of_its_own"),
        # 11 frames of 27 x 27 tokens; one more does not fit.
        pytest.param(8192, 11, 27, 8192, id="limit_below_the_budget"),
    ],
)
def test_the_usual_request_fills_the_budget(max_length, num_frames, grid, num_tokens):
    model = VideoITGSpec(
        image_size=384,
        side=27,
        vision_hidden_size=1152,
        vision_token_num=16384,
        max_tokens=max_length,
        pad_token_id=0,
    )
    request = usual_request(FAMILY, model, vocab_size=10)
    assert [one.shape for one in request.inputs] == [(num_frames, 384, 384, 3), (1, grid, 27)]
    assert request.num_tokens == (num_tokens,)
