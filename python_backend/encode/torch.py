"""The vision stage in PyTorch: the reference numerics, and on a GPU the path without TensorRT."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from python_backend.arrays import Array, to_torch

if TYPE_CHECKING:
    from groundserve.families.videoitg.vision import VisionEncoder as VisionModel

# On a CPU softmax is materialised (16 heads x 729 x 729 floats = 34 MB a frame).
_MAX_FRAMES_AT_ONCE_CPU = 8
# In 16 bits the widest tensor of 128 frames at full size (729 x 4304 each) is 0.8 GB.
_MAX_FRAMES_AT_ONCE_GPU = 128


class TorchEncoder:
    """Runs `groundserve.families.videoitg.vision`."""

    def __init__(self, model: VisionModel, *, device: str = "cpu") -> None:
        """Move the model to where it runs.

        Args:
            model: In the dtype it computes in; on a CPU float32.
            device: `cpu`, `cuda` or `cuda:1`.
        """
        from python_backend.cuda import place

        place(model, model.config, model.encoder.layers, device=device)
        # A convolution in float32 would be computed in tf32; a matrix product is not.
        model.patches_as_matmul = model.embeddings.patch_embedding.weight.is_cuda
        self._model = model

    def encode(self, frames: Array, pooling: NDArray[np.float32]) -> Array:
        """See `VisionEncoder.encode`; on a GPU the features stay there, in 16 bits as float16."""
        import torch

        from python_backend.cuda import fused_kernels

        weight = self._model.embeddings.patch_embedding.weight
        on_gpu = weight.is_cuda
        at_once = _MAX_FRAMES_AT_ONCE_GPU if on_gpu else _MAX_FRAMES_AT_ONCE_CPU
        pool = to_torch(pooling, weight.device)
        # Frames in host memory go up piece by piece; frames on the GPU are not copied.
        pieces = [
            to_torch(frames[start : start + at_once], weight.device)
            for start in range(0, len(frames), at_once)
        ]
        with torch.inference_mode(), fused_kernels() if on_gpu else nullcontext():
            # expand copies nothing: all frames read one (g, s).
            encoded = [self._model(piece, pool.expand(len(piece), -1, -1)) for piece in pieces]
            features = torch.cat(encoded)
            if on_gpu:
                is_16_bit = weight.dtype != torch.float32
                # bfloat16 too, which numpy does not have: features may go to the host and the
                # cache.
                return features.to(torch.float16) if is_16_bit else features
            host_features: NDArray[np.float32] = features.to(torch.float32).numpy()
        return host_features
