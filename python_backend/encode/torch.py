"""The vision stage in PyTorch: the reference numerics, and on a GPU the path without TensorRT."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from groundserve.families.vision_inputs import take_units
from python_backend.arrays import Array, to_torch
from python_backend.cuda import fused_kernels, place
from python_backend.encode.base import split_inputs, units_at_once

if TYPE_CHECKING:
    from groundserve.families.modules import VisionModule

# On a CPU softmax is materialised: 16 heads x 729 x 729 floats, for one, are 34 MB a frame.
_MAX_FRAMES_AT_ONCE_CPU = 8
# In 16 bits the widest tensor of 128 such frames (729 x 4304 each) is 0.8 GB.
_MAX_FRAMES_AT_ONCE_GPU = 128


class TorchEncoder:
    """Runs a family's `VisionModule`."""

    def __init__(self, model: VisionModule, *, device: str = "cpu") -> None:
        place(model, model.config, model.layers, device=device)
        weight = next(model.parameters())
        self._device, self._dtype = weight.device, weight.dtype
        if self._device.type == "cuda":
            model.prepare_export()
        self._model = model

    def encode(self, *inputs: Array) -> Array:
        """Implement `VisionEncoder.encode`; features stay on a GPU, those of 16 bits as float16."""
        on_gpu = self._device.type == "cuda"
        streams, plan_inputs = split_inputs(inputs)
        most_frames = _MAX_FRAMES_AT_ONCE_GPU if on_gpu else _MAX_FRAMES_AT_ONCE_CPU
        at_once = units_at_once(most_frames, streams)
        others = [to_torch(one, self._device) for one in plan_inputs]
        encoded = []
        with torch.inference_mode(), fused_kernels() if on_gpu else nullcontext():
            for start in range(0, len(streams[0]), at_once):
                # Frames in host memory go up piece by piece; frames on the GPU are not copied.
                units = slice(start, start + at_once)
                pieces = [to_torch(one[units], self._device) for one in streams]
                # expand copies nothing: all units read one, where they share it.
                rows = [
                    one.expand(len(pieces[0]), *one.shape[1:]) for one in take_units(others, units)
                ]
                encoded.append(self._model(*pieces, *rows))
            features = torch.cat(encoded)
            if on_gpu:
                is_16_bit = self._dtype != torch.float32
                # bfloat16 too, which numpy does not have: features may go to the host and the
                # cache.
                return features.to(torch.float16) if is_16_bit else features
            host_features: NDArray[np.float32] = features.to(torch.float32).numpy()
        return host_features
