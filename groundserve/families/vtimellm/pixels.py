"""Frames of any size to CLIP's pixels, as the reference does it: on floats that are not clamped.

Shape letters: n frames, H and W their sides in pixels, S side of the square that CLIP takes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundserve.families.clip import MEAN, STD


class PixelValues(nn.Module):
    """The shorter side to S, the square in the middle, CLIP's normalisation.

    Source: huangb23/VTimeLLM c34ae56, `vtimellm/inference.py`; torchvision v0.15.2,
    `torchvision/transforms/functional.py::resize`, `::center_crop`.
    """

    def __init__(self, *, image_size: int, antialias: bool) -> None:
        super().__init__()
        self.image_size = image_size
        self.antialias = antialias
        # What the reference computes. The same sums as two matrix products have no operator that a
        # runtime lacks or computes in its own way, which is what exported graphs do.
        self.as_matmul = False
        # The same again by the neighbours alone, rounded as PyTorch rounds on x86-64: what the
        # graph of a CPU does, for another float32 is another float16 once in a while. Not with
        # antialias.
        self.as_neighbours = False

    def forward(self, frames: Tensor) -> Tensor:
        """Resize, crop and normalise: uint8 (n, H, W, 3), RGB -> float32 (n, 3, S, S).

        Each is a value of float16, to which the reference rounds them.
        """
        # Divided first, as the reference does: ONNX Runtime would make a factor of a product of it.
        pixels = frames.permute(0, 3, 1, 2).to(torch.float32) / 255.0  # (n, 3, H, W)
        if self.as_neighbours and not self.antialias:
            pixels = self._by_neighbours(pixels)
        else:
            pixels = self._matmul(pixels) if self.as_matmul else self._interpolate(pixels)
        mean, std = (torch.tensor(one, device=frames.device).view(3, 1, 1) for one in (MEAN, STD))
        return ((pixels - mean) / std).to(torch.float16).to(torch.float32)

    def _interpolate(self, pixels: Tensor) -> Tensor:
        (height, top), (width, left) = self._sides(*pixels.shape[2:])
        pixels = F.interpolate(
            pixels,
            size=(height, width),
            mode="bicubic",
            align_corners=False,
            antialias=self.antialias,
        )
        size = self.image_size
        return pixels[:, :, top : top + size, left : left + size]

    def _by_neighbours(self, pixels: Tensor) -> Tensor:
        _, _, num_rows, num_columns = pixels.shape
        (height, top), (width, left) = self._sides(num_rows, num_columns)
        # (n, 3, H, W) -> (n, 3, H, S) -> (n, 3, S, S): columns first, as PyTorch does.
        columns = _neighbours(num_columns, width, left, self.image_size)
        pixels = _sum_of_four([(pixels.index_select(3, at), weight) for at, weight in columns])
        rows = _neighbours(num_rows, height, top, self.image_size)
        return _sum_of_four([(pixels.index_select(2, at), by.unsqueeze(1)) for at, by in rows])

    def _matmul(self, pixels: Tensor) -> Tensor:
        num_frames, _, num_rows, num_columns = pixels.shape
        weights = _antialias_weights if self.antialias else _weights
        (height, top), (width, left) = self._sides(num_rows, num_columns)
        size = self.image_size
        rows = weights(num_rows, height, top, size)  # (S, H)
        columns = weights(num_columns, width, left, size)  # (S, W)
        pixels = pixels.reshape(num_frames * 3 * num_rows, num_columns)
        # (n*3*H, W) x (W, S) -> (n, 3, H, S)
        pixels = torch.matmul(pixels, columns.to(pixels.device).T)
        pixels = pixels.reshape(num_frames, 3, num_rows, size)
        # (S, H) x (n, 3, H, S) -> (n, 3, S, S)
        return torch.matmul(rows.to(pixels.device), pixels)

    def _sides(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return of rows and of columns how many there are once resized, and the first kept."""
        size = self.image_size
        # Of numbers, or of what stands for them as a graph is traced.
        shorter = torch.sym_min(height, width)  # type: ignore[no-untyped-call] # torch's own
        # Rounded down, as the reference does by way of a float, which is exact here.
        resized = (size * height // shorter, size * width // shorter)
        rows, columns = ((side, _middle(side - size)) for side in resized)
        return rows, columns


def _middle(surplus: int) -> int:
    """Return half of it; of halves the even one, as Python rounds them."""
    half = surplus // 2
    return half + (surplus % 2) * (half % 2)


def _weights(num_in: int, num_out: int, first: int, size: int) -> Tensor:
    """Return float32 (S, num_in): by how much each pixel counts in those from `first` on.

    Of four neighbours the cubic with a = -0.75; those behind an edge are the edge's pixel.
    """
    centers = _centers(num_in, num_out, first, size) - 0.5
    nearest = centers.floor()
    offset = centers - nearest
    pixels = torch.arange(num_in, dtype=torch.float32)
    weights = torch.zeros(())
    for step in (-1, 0, 1, 2):
        neighbour = (nearest + step).clamp(0, num_in - 1)
        weight = _cubic((offset - step).abs(), a=-0.75)
        weights = weights + weight * (pixels == neighbour)
    return weights


def _neighbours(num_in: int, num_out: int, first: int, size: int) -> list[tuple[Tensor, Tensor]]:
    """Return where the four neighbours of each pixel from `first` on are, and what they count.

    Of each of the four int64 (S,), and float32 (S,) of the cubic with a = -0.75: bit for bit as in
    PyTorch's kernel, of whose products and sums some are fused.

    Source: pytorch/pytorch v2.13.0, `aten/src/ATen/native/UpSample.h`,
    `get_cubic_upsample_coefficients`; what the compiler fused was found by comparing.
    """
    scale = torch.full((), num_in, dtype=torch.float32) / num_out
    centers = _fused(torch.arange(size, dtype=torch.float32) + first + 0.5, scale, -0.5)
    nearest = centers.floor()
    offset = centers - nearest
    opposite = 1 - offset
    weights = {-1: _far(offset + 1), 0: _near(offset), 1: _near(opposite), 2: _far(opposite + 1)}
    return [
        ((nearest + step).clamp(0, num_in - 1).to(torch.int64), weight)
        for step, weight in weights.items()
    ]


def _near(distance: Tensor) -> Tensor:
    """Return the cubic of a = -0.75 at distances of [0, 1]."""
    return (1.25 * distance - 2.25) * distance * distance + 1


def _far(distance: Tensor) -> Tensor:
    """Return the same at distances of [1, 2]."""
    return _fused(-0.75 * distance + 3.75, distance, -6.0) * distance + 3


def _sum_of_four(weighed: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Add products in the order in which PyTorch's kernel does, each sum rounded once."""
    first, (pixels, weight), *others = weighed
    total = _fused(*first, pixels * weight)
    for one, by in others:
        total = _fused(one, by, total)
    return total


def _fused(one: Tensor, other: Tensor, summand: Tensor | float) -> Tensor:
    """Return a product and a sum rounded once, as a processor's fused operation does."""
    if isinstance(summand, Tensor):
        summand = summand.to(torch.float64)
    # A product of two of float32 is exact in float64.
    return (one.to(torch.float64) * other.to(torch.float64) + summand).to(torch.float32)


def _antialias_weights(num_in: int, num_out: int, first: int, size: int) -> Tensor:
    """Return the same of the cubic with a = -0.5, as wide as a step and cut off at the edges."""
    centers = _centers(num_in, num_out, first, size)
    # Never narrower than its four neighbours.
    scale = torch.full((), num_in, dtype=torch.float32) / num_out
    scale = scale.clamp(min=1)
    pixels = torch.arange(num_in, dtype=torch.float32)
    weights = _cubic(((pixels + 0.5 - centers) / scale).abs(), a=-0.5)
    return weights / weights.sum(dim=1, keepdim=True)


def _centers(num_in: int, num_out: int, first: int, size: int) -> Tensor:
    """Return float32 (S, 1), where the middles of the pixels from `first` on lie in the source."""
    pixels = torch.arange(size, dtype=torch.float32).unsqueeze(1) + first
    return (pixels + 0.5) * (torch.full((), num_in, dtype=torch.float32) / num_out)


def _cubic(distance: Tensor, *, a: float) -> Tensor:
    """Return Keys' cubic convolution kernel at distances >= 0."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    zero = torch.zeros_like(distance)
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, zero))
