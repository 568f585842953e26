"""Sizes of a TensorRT-LLM engine."""

from __future__ import annotations

from engine_build.triton.__main__ import REFERENCE_MODEL
from engine_build.trtllm.limits import max_input_len, opt_num_tokens


def test_limits_of_the_full_size_model():
    assert (max_input_len(REFERENCE_MODEL), opt_num_tokens(REFERENCE_MODEL)) == (20480, 17408)
