"""How long the sequence of an engine may be.

The builder's own defaults do not fit: 8,192 tokens refuse a single video, and kernels are tuned for
as many tokens as there are sequences.
"""

from __future__ import annotations

from groundserve.families.base import ModelSpec

# A checkpoint without a limit of its own gets the released model's.
_DEFAULT_MAX_INPUT_LEN = 20_480
# Room for text beside the visual tokens in the shape that kernels are tuned for.
_TYPICAL_TEXT_TOKENS = 1_024


def max_input_len(model: ModelSpec) -> int:
    """Return the tokens of the longest request, which is one sequence and one pass."""
    return model.max_tokens or _DEFAULT_MAX_INPUT_LEN


def opt_num_tokens(model: ModelSpec) -> int:
    """Return the tokens of a usual pass: the visual budget, and room for text."""
    return min(max_input_len(model), model.max_feature_tokens + _TYPICAL_TEXT_TOKENS)
