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
_DEFAULT_MAX_BATCH_SIZE = 4
_DEFAULT_SEQUENCES_A_PASS = 2


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

    def __post_init__(self) -> None:
        """Check each size and how they fit together.

        Raises:
            UnsupportedError: A size cannot be built.
        """
        for name in ("max_batch_size", "max_input_len", "opt_num_tokens"):
            if getattr(self, name) < 1:
                raise UnsupportedError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.max_num_tokens < self.max_input_len:
            raise UnsupportedError(
                f"max_num_tokens must hold one sequence of max_input_len {self.max_input_len} "
                f"tokens, got {self.max_num_tokens}"
            )
        if self.max_num_tokens > self.max_batch_size * self.max_input_len:
            raise UnsupportedError(
                "max_num_tokens must not exceed max_batch_size * max_input_len = "
                f"{self.max_batch_size * self.max_input_len}, got {self.max_num_tokens}"
            )
        if self.opt_num_tokens > self.max_num_tokens:
            raise UnsupportedError(
                f"opt_num_tokens must not exceed max_num_tokens {self.max_num_tokens}, "
                f"got {self.opt_num_tokens}"
            )

    @classmethod
    def for_model(
        cls, model: ModelSpec, *, mlp_width: int, max_num_tokens: int | None = None
    ) -> EngineLimits:
        """Return the sizes for a model: its longest request, two of them in a pass.

        Args:
            model: Of the checkpoint.
            mlp_width: Columns of the decoder's gate projection.
            max_num_tokens: Most tokens of a pass, where memory asks for less or allows more.

        Raises:
            UnsupportedError: The longest request does not fit in what was asked for, or TensorRT
                cannot hold such a pass.
        """
        max_input_len = _max_input_len(model)
        bound = largest_num_tokens(mlp_width)
        # `max_input_len` at least: a model whose longest request passes the bound is refused below.
        if max_num_tokens is None:
            max_num_tokens = max(
                max_input_len, min(_DEFAULT_SEQUENCES_A_PASS * max_input_len, bound)
            )
        if max_num_tokens > bound:
            raise UnsupportedError(
                f"max_num_tokens must be <= {bound}, got {max_num_tokens}: the fused MLP's output "
                f"of {2 * mlp_width} columns would pass TensorRT's 2^31-1 elements"
            )
        return cls(
            max_batch_size=_DEFAULT_MAX_BATCH_SIZE,
            max_input_len=max_input_len,
            max_num_tokens=max_num_tokens,
            opt_num_tokens=opt_num_tokens(model),
        )


def opt_num_tokens(model: ModelSpec) -> int:
    """Return the tokens of a usual pass: the visual budget, and room for text."""
    return min(_max_input_len(model), model.max_feature_tokens + _TYPICAL_TEXT_TOKENS)


def largest_num_tokens(mlp_width: int) -> int:
    """Return the most tokens of a pass whose widest tensor TensorRT can still hold.

    That tensor is the output of gate and up projection, which the builder fuses into one.
    """
    return _MAX_ELEMENTS // (2 * mlp_width)


def _max_input_len(model: ModelSpec) -> int:
    return model.max_tokens or _DEFAULT_MAX_INPUT_LEN
