"""The pools that a GPU server hands tensors between models in.

Both are taken whole when the server starts. A tensor that does not fit the CUDA pool is moved to
the pinned one and one that does not fit that to ordinary memory, each with a warning in the log and
no error: the answer is right and comes late. So they are made for the worst case.

One request's widest tensors, in bytes:

    P = frames of a chunk       max_batch_size of `vision_encoder` x S x S x 3
    F = features of all frames  vision_token_num x D_v x 2 (float16; 4 in float32)

The features of one chunk are at most F too: T frames share the token budget and n <= T. At the
worst moment every instance of `video_features` holds the chunk that is being encoded, the next one
already decoded, the features of the one and those of the video so far; and every request that
`grounding` works on, or has accepted, holds the features of its video:

    instances of video_features x (2 P + 2 F) + (instances of grounding + max_queue_size) x F

With the released model at float16, P = 27 MiB and F = 36 MiB; four and one instances and a queue of
ten make 4 x (54 + 72) + 11 x 36 = 900 MiB. Every one of these tensors can lie on the host as well
(frames that the CPU had to decode, features out of the cache), so the pinned pool has that size,
too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from groundserve.limits import MIB
from groundserve.manifest import ModelSpec
from groundserve.serving.repository import feature_bytes, num_instances

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

# Triton's own defaults: never less.
_MIN_CUDA_BYTES = 64 * MIB
_MIN_PINNED_BYTES = 256 * MIB


@dataclass(frozen=True, kw_only=True)
class MemoryPools:
    """Sizes of the two pools."""

    cuda_bytes: int
    """On GPU 0, shared by the server and the models' processes."""
    pinned_bytes: int
    """On the host, not pageable."""


def memory_pools(configs: dict[str, ModelConfig], model: ModelSpec) -> MemoryPools:
    """Return the sizes for a repository whose encoder and grounder run on the GPU.

    Args:
        configs: As `read_configs` returns them.
        model: Dimensions of the checkpoint.
    """
    video_features, grounding = configs["video_features"], configs["grounding"]
    width = feature_bytes(grounding)
    assert width is not None, "grounding takes FEATURES"
    features = model.vision_token_num * model.vision_hidden_size * width
    chunk = configs["vision_encoder"].max_batch_size * model.image_size**2 * 3
    queue = grounding.dynamic_batching.default_queue_policy.max_queue_size
    needed = num_instances(video_features) * (2 * chunk + 2 * features)
    needed += (num_instances(grounding) + queue) * features
    return MemoryPools(
        cuda_bytes=max(_MIN_CUDA_BYTES, needed), pinned_bytes=max(_MIN_PINNED_BYTES, needed)
    )
