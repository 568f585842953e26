"""A PyTorch model in float64, and how far float32 may take it from there.

`Float64` computes in float64 throughout, also where a model's code asks for float32. `rounded` does
the same and disturbs the result of every elementary operation as float32 would: by a number
that is uniform in +-u = +-2**-24 of the result, of four units for functions that libraries
approximate (exp, tanh, erf, ...), and for sums by what adding one term after another gives, the
order with the largest error that any program uses. With p_i the k terms, the variance of such a
sum's error is u**2/3 times the sum of the squared partial sums, whose mean is k/2 * sum(p_i**2) for
terms of random signs, and which is k/3 * (sum p_i)**2 for equal ones; both are counted (N. Higham,
Accuracy and Stability of Numerical Algorithms, 2nd edition, 4.2; Higham and Mary, SIAM J. Sci.
Comput. 41, 2019, for roundings as independent random numbers).

`error_bound` is four times the root mean square of the largest deviation, over a few draws. The
roundings are drawn from a seed, so a bound is the same on every processor but for the last digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._decomp import get_decompositions
from torch.utils._python_dispatch import TorchDispatchMode

UNIT = 2.0**-24
"""Relative error of one float32 rounding, at most."""
NUM_DRAWS = 2
_FACTOR = 4.0

_aten = torch.ops.aten
# What these do inside counts operation by operation.
_DECOMPOSED = get_decompositions(
    [_aten.native_layer_norm, _aten._softmax, _aten.gelu, _aten.silu, _aten.addmm]
)
# aten name -> units of one result's error.
_ELEMENTWISE = dict.fromkeys(["add", "sub", "mul", "div", "reciprocal", "sqrt"], 1.0) | (
    dict.fromkeys(["exp", "tanh", "erf", "sigmoid", "cos", "sin", "pow", "rsqrt"], 4.0)
)
# Move or choose numbers: no rounding.
_MOVING = ["_to_copy", "_unsafe_view", "alias", "cat", "clone", "detach", "expand", "lift_fresh"]
_CHOOSING = ["amax", "embedding", "neg", "select", "slice", "squeeze", "t", "to", "transpose"]
_EXACT = frozenset([*_MOVING, *_CHOOSING, "permute", "unsqueeze", "view"])


class Float64(TorchDispatchMode):
    """Computes every operation on float64 tensors in float64, whatever dtype the code asks for.

    With a generator, every result is disturbed as float32 would.
    """

    def __init__(self, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self._generator = generator

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("dtype") is torch.float32:
            kwargs = {**kwargs, "dtype": torch.float64}
        if func in _DECOMPOSED:
            with self:
                return _DECOMPOSED[func](*args, **kwargs)
        result = func(*args, **kwargs)
        if self._generator is None:
            return result
        name = func._schema.name.removeprefix("aten::").removeprefix("prims::")
        return self._disturbed(name, func, result, args, kwargs)

    def _disturbed(self, name: str, func: Any, result: Any, args: Any, kwargs: Any) -> Any:
        if name in _EXACT or not _is_float(result[0] if name == "var_mean" else result):
            return result
        match name:
            case "mm" | "bmm":
                left, right = args
                squares = func(left.square(), right.square())
                return self._summed(result, squares, num_terms=left.shape[-1])
            case "convolution":
                x, weight, bias, *rest = args
                squares = func(x.square(), weight.square(), None, *rest)
                summed = self._summed(result, squares, num_terms=weight[0].numel())
                return summed if bias is None else self._with_error(summed, result.abs())
            case "sum" | "mean":
                num_terms = args[0].numel() // result.numel()
                squares = func(args[0].square(), *args[1:], **kwargs)
                if name == "mean":  # of the squares of x / k
                    squares = squares / num_terms
                return self._summed(result, squares, num_terms=num_terms)
            case "var_mean":
                variance, mean = result
                num_terms = args[0].numel() // mean.numel()
                squares = args[0].square().mean(args[1], keepdim=True) / num_terms
                return (
                    # Squares of normal numbers: their own squares have a mean of 3.
                    self._summed(variance, (3 / num_terms) * variance.square(), num_terms),
                    self._summed(mean, squares, num_terms),
                )
        if name not in _ELEMENTWISE:
            raise NotImplementedError(f"say how {name} rounds in {__name__}")
        return self._with_error(result, _ELEMENTWISE[name] * result.abs())

    def _summed(self, result: Tensor, squares: Tensor, num_terms: int) -> Tensor:
        """Disturb sums, given the sums of the squared terms."""
        variance = (num_terms / 2 + 1) * squares + (num_terms / 3) * result.square()
        return self._with_error(result, variance.sqrt_())

    def _with_error(self, result: Tensor, units: Tensor) -> Tensor:
        draw = torch.empty(result.shape, dtype=torch.float32)
        draw.uniform_(-UNIT, UNIT, generator=self._generator)
        return result.addcmul(draw, units)


def exactly(function: Callable[..., Tensor], *args: Any) -> NDArray[np.float64]:
    """Call a function of a float64 model, in float64 throughout."""
    with _one_thread(), torch.no_grad(), Float64():
        result = function(*args)
    assert result.dtype == torch.float64, result.dtype
    return result.numpy()


def rounded(function: Callable[..., Tensor], *args: Any, seed: int) -> NDArray[np.float64]:
    """Call a function of a float64 model with the roundings of float32, drawn from a seed."""
    with _one_thread(), torch.no_grad(), Float64(torch.Generator().manual_seed(seed)):
        return function(*args).numpy()


def in_float32(function: Callable[..., Tensor], *args: Any) -> tuple[NDArray[np.float64], float]:
    """Return what a function of a float64 model gives, and how far float32 may lie from it."""
    exact = exactly(function, *args)
    draws = [rounded(function, *args, seed=seed) for seed in range(NUM_DRAWS)]
    return exact, error_bound(exact, draws)


def error_bound(exact: NDArray[np.float64], draws: Sequence[NDArray[np.float64]]) -> float:
    """Return how far float32 may lie from `exact`, by what `rounded` gave with some seeds."""
    largest = [np.abs(draw - exact).max() for draw in draws]
    return _FACTOR * math.sqrt(np.mean(np.square(largest)))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread: on tensors this small, two take 30 times as long to meet."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
