"""The vision stage as a TensorRT plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from python_backend.arrays import Array, concatenate, to_torch
from python_backend.encode.base import units_at_once

if TYPE_CHECKING:
    import torch

    from python_backend.tensorrt_runtime import PlanRunner

# The float32 frames and products of a chunk that is resized at once, beside its 128 MiB of bytes.
_MAX_FRAMES_RESIZED = 8


class TensorRTEncoder:
    """Runs `vision_encoder.plan`, as many units at a time as it takes."""

    def __init__(
        self,
        runner: PlanRunner,
        names: Sequence[str],
        *,
        pixels: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        """Take an open plan.

        Args:
            runner: The plan.
            names: Its inputs in the family's order: `VisionInputs.names`, or `PLAN_PIXELS` alone.
            pixels: Makes the first of them of frames as decoded, where they are those:
                `PixelFamily.open_pixels`. None: the plan takes the frames themselves.
        """
        self._runner = runner
        self._names = names
        self._pixels = pixels
        self._max_units = runner.max_shape(names[0])[0]

    def encode(self, *inputs: Array) -> Array:
        """See `VisionEncoder.encode`; float16, on the GPU."""
        import torch

        arrays = [to_torch(one, self._runner.device) for one in inputs]
        num_units = len(arrays[0])
        # What all units share, too, the plan reads one after another.
        batches = [one.expand(num_units, *one.shape[1:]) for one in arrays]
        features = []
        for pieces in zip(*(torch.split(one, self._max_units) for one in batches), strict=True):
            if self._pixels:
                pieces = (self._resized(pieces[0]), *pieces[1:])
            feeds = [piece.contiguous() for piece in pieces]
            answer = self._runner.run(dict(zip(self._names, feeds, strict=True)))
            features.append(answer["FEATURES"])
        return concatenate(features)

    def _resized(self, frames: torch.Tensor) -> torch.Tensor:
        """uint8 (n, H, W, 3) -> float16 (n, 3, S, S), which loses nothing: see `PixelFamily`."""
        import torch

        assert self._pixels is not None, "the plan takes pixel values"
        with torch.inference_mode():
            parts = [
                self._pixels(some).to(torch.float16)
                for some in torch.split(frames, units_at_once(_MAX_FRAMES_RESIZED, [frames]))
            ]
        return torch.cat(parts)
