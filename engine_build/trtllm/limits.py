"""How long and how many the sequences of an engine may be.

The builder's own defaults do not fit a prefill of one long sequence: its 8,192 tokens refuse a
single video, and it tunes its kernels for as many tokens as there are sequences.
"""

from __future__ import annotations

from dataclasses import dataclass

from groundserve.errors import UnsupportedError
from groundserve.families.base import ModelSpec

# Elements of one TensorRT tensor.
_MAX_ELEMENTS = 2**31 - 1
# A checkpoint without a limit of its own gets the released model's.
_DEFAULT_MAX_INPUT_LEN = 20_480
# Room for text beside the visual tokens in the shape that kernels are tuned for.
_TYPICAL_TEXT_TOKENS = 1_024
# Two long sequences saturate a GPU; four let short ones share a pass.
_MAX_BATCH_SIZE = 4
_SEQUENCES_A_PASS = 2


@dataclass(frozen=True, kw_only=True)
class EngineLimits:
    """Sizes an engine is built for, in the builder's own words."""

    max_batch_size: int
    """Most sequences in one pass."""
    max_input_len: int
    """Most tokens of one sequence."""
    max_num_tokens: int
    """Most tokens of all sequences in one pass."""
    opt_num_tokens: int
    """Tokens in the pass that kernels are chosen for."""

    @classmethod
    def for_model(cls, model: ModelSpec, *, mlp_width: int) -> EngineLimits:
        """Return the sizes for a model: its longest request, two of them in a pass.

        Args:
            model: Of the checkpoint.
            mlp_width: Columns of the decoder's gate projection. The builder fuses it with the up
                projection, and their output is the widest tensor of a pass.

        Raises:
            UnsupportedError: TensorRT cannot hold the longest request.
        """
        max_input_len = _max_input_len(model)
        largest = _MAX_ELEMENTS // (2 * mlp_width)
        if max_input_len > largest:
            raise UnsupportedError(
                f"the longest request of {max_input_len} tokens must be <= {largest}: the fused "
                f"MLP's output of {2 * mlp_width} columns would pass TensorRT's 2^31-1 elements"
            )
        return cls(
            max_batch_size=_MAX_BATCH_SIZE,
            max_input_len=max_input_len,
            max_num_tokens=min(_SEQUENCES_A_PASS * max_input_len, largest),
            opt_num_tokens=opt_num_tokens(model),
        )


def opt_num_tokens(model: ModelSpec) -> int:
    """Return the tokens of a usual pass: the visual budget, and room for text."""
    return min(_max_input_len(model), model.max_feature_tokens + _TYPICAL_TEXT_TOKENS)


def _max_input_len(model: ModelSpec) -> int:
    return model.max_tokens or _DEFAULT_MAX_INPUT_LEN
