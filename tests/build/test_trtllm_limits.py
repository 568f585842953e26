"""Sizes of a TensorRT-LLM engine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine_build.triton.__main__ import REFERENCE_MODEL
from engine_build.trtllm import EngineLimits
from engine_build.trtllm.limits import largest_num_tokens
from groundserve.errors import UnsupportedError

MLP_WIDTH = 18_944  # the released model's


def limits_of(**changes):
    return EngineLimits.for_model(replace(REFERENCE_MODEL, **changes), mlp_width=MLP_WIDTH)


def test_limits_of_the_full_size_model():
    assert limits_of() == EngineLimits(
        max_batch_size=4, max_input_len=20480, max_num_tokens=40960, opt_num_tokens=17408
    )


def test_largest_num_tokens_is_the_last_that_fits():
    largest = largest_num_tokens(MLP_WIDTH)
    assert largest * 37888 < 2**31 <= (largest + 1) * 37888
    EngineLimits.for_model(REFERENCE_MODEL, mlp_width=MLP_WIDTH, max_num_tokens=largest)
    with pytest.raises(UnsupportedError, match=f"max_num_tokens must be <= {largest}"):
        EngineLimits.for_model(REFERENCE_MODEL, mlp_width=MLP_WIDTH, max_num_tokens=largest + 1)


def test_limits_refuse_a_pass_that_cannot_hold_the_longest_request():
    with pytest.raises(UnsupportedError, match="must hold one sequence of max_input_len 20480"):
        EngineLimits.for_model(REFERENCE_MODEL, mlp_width=MLP_WIDTH, max_num_tokens=8192)
