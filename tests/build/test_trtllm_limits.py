"""Sizes of a TensorRT-LLM engine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine_build.triton.__main__ import REFERENCE_MODEL
from engine_build.trtllm import EngineLimits
from groundserve.errors import UnsupportedError

MLP_WIDTH = 18_944  # the released model's


def limits_of(**changes):
    return EngineLimits.for_model(replace(REFERENCE_MODEL, **changes), mlp_width=MLP_WIDTH)


def test_limits_of_the_full_size_model():
    assert limits_of() == EngineLimits(
        max_batch_size=4, max_input_len=20480, max_num_tokens=40960, opt_num_tokens=17408
    )


def test_a_request_that_tensorrt_cannot_hold_is_refused():
    largest = (2**31 - 1) // (2 * MLP_WIDTH)
    assert limits_of(max_tokens=largest).max_num_tokens == largest
    with pytest.raises(UnsupportedError, match=f"must be <= {largest}"):
        limits_of(max_tokens=largest + 1)
