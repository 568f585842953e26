"""The vision stage as a TensorRT plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from python_backend.arrays import Array, concatenate, to_torch
from python_backend.encode.base import split_inputs, units_at_once

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

        streams, plan_inputs = (
            [to_torch(one, self._runner.device) for one in some] for some in split_inputs(inputs)
        )
        num_units = len(streams[0])
        # The same for every unit, and the plan reads them one after another.
        repeated = [one.expand(num_units, *one.shape).contiguous() for one in plan_inputs]
        features = []
        for pieces in zip(*(torch.split(one, self._max_units) for one in streams), strict=True):
            # Rows from the front will do for any piece.
            rows = [one[: len(pieces[0])] for one in repeated]
            made = (self._resized(piece) if self._pixels else piece for piece in pieces)
            arrays = [*(piece.contiguous() for piece in made), *rows]
            answer = self._runner.run(dict(zip(self._names, arrays, strict=True)))
            features.append(answer["FEATURES"])
        return concatenate(features)

    def _resized(self, frames: torch.Tensor) -> torch.Tensor:
        """uint8 (n, H, W, 3) -> float16 (n, 3, S, S), which loses nothing: see `PixelFamily`."""
        import torch

        assert self._pixels is not None, "the plan takes pixel values"
        with torch.inference_mode():
            parts = [
                self._pixels(some).to(torch.float16)
                for some in torch.split(frames, units_at_once(_MAX_FRAMES_RESIZED, frames))
            ]
        return torch.cat(parts)
