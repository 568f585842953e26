"""What a GPU server takes of memory besides its weights: pools between the models, and decoding.

Tensors between models lie in two pools, both taken whole when the server starts. A tensor that does
not fit the CUDA pool is moved to the pinned one and one that does not fit that to ordinary memory,
each with a warning in the log and no error: the answer is right and comes late. So they are made
for the worst case.

One request's widest tensors, in bytes:

    P = frames of a chunk       CHUNK_FRAMES x bytes of a frame of each stream
    F = features of a video     max_feature_tokens x feature_width x 2 (float16; 4 in float32)
    N = chunks of a request that are encoded at once, `python_backend.chunks.NUM_SERVED_ENCODES`

`VideoTensors` has both by family. What else goes into the vision stage is small beside the frames
and not counted.

The features of all chunks being encoded are at most F too: their frames share the token budget. At
the worst moment every instance of `video_features` holds N chunks that are being encoded, each with
the copy that a call from a Python model makes of its inputs; the next chunk, already decoded; the
features of those chunks and those of the video so far. And every request that the head works on,
or that waits for it, holds the features of its video; as many may wait as `admission` lets:

    instances of video_features x ((2 N + 1) P + 2 F)
    + (instances of the head + max_waiting) x F

With the released model at float16, P = 27 MiB and F = 36 MiB; N = 2, four and one instances and ten
that wait make 4 x (135 + 72) + 17 x 36 = 1,440 MiB. Every one of these tensors can lie on the
host as well (frames that the CPU had to decode, features out of the cache), so the pinned pool has
that size, too.

Source: triton-inference-server/python_backend 01d0ad8 (r24.10) and 47f9e03 (r26.04),
src/python_be.cc, `ExecuteBLSRequest`: each input on the GPU is copied to memory from the pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from groundserve.limits import MIB, Limits
from groundserve.serving.repository import feature_bytes, num_instances
from groundserve.serving.video_tensors import VideoTensors

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


@dataclass(frozen=True, kw_only=True)
class DeviceMemory:
    """What a server sets aside on GPU 0, or takes of it at most.

    Not in it: weights, activations, CUDA contexts, and the NVDEC sessions that DALI keeps open
    (`python_backend.decode.memory`).
    """

    cuda_pool_bytes: int
    """Taken whole at the start."""
    decode_process_bytes: int
    """At most, in each process that decodes; 0 where the CPU decodes."""
    num_decode_processes: int
    """Instances of `video_decode` that use the GPU."""

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.cuda_pool_bytes + self.num_decode_processes * self.decode_process_bytes


def device_memory(
    configs: dict[str, ModelConfig], tensors: VideoTensors, limits: Limits
) -> DeviceMemory:
    """Add up what a repository takes of the GPU that its encoder and grounder run on.

    Args:
        configs: As `read_configs` returns them.
        tensors: Of the engines' family and model.
        limits: Ceilings of a request: they decide the largest picture.
    """
    from python_backend.decode.memory import decode_memory

    video_decode = configs["video_decode"]
    decode_process_bytes = num_processes = 0
    if "num_threads" in video_decode.parameters:  # which only decoders on the GPU are told
        decode_process_bytes = decode_memory(
            max_side_pixels=limits.max_side_pixels,
            image_size=tensors.image_size,
            num_threads=int(video_decode.parameters["num_threads"].string_value),
        ).total
        num_processes = num_instances(video_decode)
    return DeviceMemory(
        cuda_pool_bytes=memory_pools(configs, tensors).cuda_bytes,
        decode_process_bytes=decode_process_bytes,
        num_decode_processes=num_processes,
    )


def memory_pools(configs: dict[str, ModelConfig], tensors: VideoTensors) -> MemoryPools:
    """Return the sizes for a repository whose encoder and grounder run on the GPU.

    Args:
        configs: As `read_configs` returns them.
        tensors: Of the engines' family and model.
    """
    from python_backend.chunks import NUM_SERVED_ENCODES

    video_features = configs["video_features"]
    head = next(config for config in configs.values() if _takes_features(config))
    width = feature_bytes(head)
    assert width is not None, "it takes FEATURES"
    features = tensors.num_features * width
    max_waiting = int(configs["admission"].parameters["max_waiting"].string_value)
    # Each chunk being encoded and its copy, and the one decoded ahead.
    num_chunks = 2 * NUM_SERVED_ENCODES + 1
    # The formula at the top of this file.
    needed = num_instances(video_features) * (num_chunks * tensors.chunk_bytes + 2 * features)
    needed += (num_instances(head) + max_waiting) * features
    return MemoryPools(
        cuda_bytes=max(_MIN_CUDA_BYTES, needed), pinned_bytes=max(_MIN_PINNED_BYTES, needed)
    )


def _takes_features(config: ModelConfig) -> bool:
    return any(tensor.name == "FEATURES" for tensor in config.input)
