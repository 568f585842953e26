"""What a server takes of memory: regions in /dev/shm, pools on a GPU, and the server's own.

Each process of the Python backend has a region. It starts at one size for all models, grows by a
step when a tensor does not fit, and never shrinks. In small steps it would grow far beyond what it
ever holds, for room that is free but in pieces is not used. So it starts large enough for all
models but the front, whose steps each make room for an upload; one more than its tensors need is
for such pieces. Pages that were never written take no memory; `check_room` looks whether all could
be.

On a GPU tensors between models lie in a CUDA pool and, what does not fit or comes from the host, in
a pinned one. Both are taken whole at the start; what fits neither is moved to ordinary memory, late
but right. So each is made for the worst moment.

Source: triton-inference-server/python_backend 01d0ad8 (r24.10), src/shm_manager.cc `GrowIfNeeded`;
src/python_be.cc `ExecuteBLSRequest`: each input on the GPU is copied to memory from the pool.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from groundserve import extras
from groundserve.engines.manifest import CHUNK_FRAMES
from groundserve.errors import EngineMismatchError, UnavailableError
from groundserve.families.base import Family, ModelSpec
from groundserve.families.vision_inputs import max_chunk_bytes
from groundserve.limits import GIB, MIB, Limits
from groundserve.serving.run_folder import SHM_DIR
from python_backend.chunks import NUM_SERVED_ENCODES
from python_backend.decode.memory import decode_memory

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

# Triton's own defaults: never less.
_MIN_CUDA_BYTES = 64 * MIB
_MIN_PINNED_BYTES = 256 * MIB
_MIN_REGION_BYTES = 32 * MIB
_SMALL_TENSORS_BYTES = 4 * MIB
"""Questions, indices, scores and messages of a request, and what lies between two tensors."""
_SMALL_PLAN_INPUTS_BYTES = 2 * MIB
"""Part of them that is for what of the plan goes into the vision stage; more comes on top."""
_SPARE_GROWTH_BYTES = 32 * MIB
"""Part of a step: what the largest upload shares it with."""
_SPARE_SERVER_BYTES = 4 * GIB


@dataclass(frozen=True, kw_only=True)
class MemoryNeeds:
    """What engines take besides weights, activations, CUDA contexts and NVDEC sessions."""

    region_bytes: int
    """Every region at its start."""
    region_growth_bytes: int
    """Added when a tensor does not fit."""
    region_budgets: Mapping[str, int]
    """Model -> what a region takes at most."""
    num_stubs: Mapping[str, int]
    """Model -> how many processes, and so regions, there are."""
    cuda_pool_bytes: int
    """On GPU 0, shared by the server and the models' processes."""
    pinned_pool_bytes: int
    """On the host, not pageable."""
    decode_process_bytes: int
    """On the GPU at most, in each process that decodes there."""
    num_decode_processes: int
    """Instances of `video_decode` that use the GPU."""
    server_bytes: int
    """In tritonserver itself, while all requests are as large as is let in."""

    @property
    def all_regions_bytes(self) -> int:
        """What all regions take when each stub has worked on its largest request."""
        return sum(self.region_budgets[model] * num for model, num in self.num_stubs.items())

    @property
    def gpu_bytes(self) -> int:
        """All of the GPU's."""
        return self.cuda_pool_bytes + self.num_decode_processes * self.decode_process_bytes


def memory_needs(
    family: Family[Any, Any], model: ModelSpec, configs: Mapping[str, ModelConfig], limits: Limits
) -> MemoryNeeds:
    """Add up what the engines of a family take, within the limits."""
    streams = family.streams(model)
    stream_names = {stream.name for stream in streams}
    chunk = sum(max_chunk_bytes(stream, limits) for stream in streams)
    chunk_plan = CHUNK_FRAMES * sum(one.max_bytes for one in family.plan_inputs(model))
    width = max(_feature_bytes(config) for config in configs.values())
    features = model.max_feature_tokens * model.feature_width * width
    decode = configs["video_decode"]
    python = {name: config for name, config in configs.items() if config.backend == "python"}
    num_stubs = {name: _num_instances(config) for name, config in python.items()}
    fronts = {name for name, config in python.items() if "VIDEO" in _tensor_names(config)}
    regions, pool, num_requests = {}, 0, 0
    for name, config in python.items():
        names = _tensor_names(config)
        num_chunks = 1 if names & stream_names else 0
        num_features = 1 if "FEATURES" in names else 0
        upload, num_encoding = 0, 1
        if name in fronts:
            num_features = _parameter(config, "max_running", 1)
            num_encoding = min(num_features, 2 * _num_instances(decode))
            # Each chunk being encoded, the copy that the call makes of it, and the group decoded
            # ahead; one upload, for it is copied out at once.
            num_chunks = num_encoding * (2 * NUM_SERVED_ENCODES + 1)
            upload = limits.max_upload_bytes
            num_waiting = _parameter(config, "max_waiting", 0)
            num_requests += num_stubs[name] * (num_features + num_waiting)
            held = num_chunks * chunk + (num_encoding + num_features) * features
            pool += num_stubs[name] * held
        plans = max(0, num_chunks * chunk_plan - num_encoding * _SMALL_PLAN_INPUTS_BYTES)
        tensors = upload + num_chunks * chunk + num_features * features
        regions[name] = tensors + plans + num_encoding * _SMALL_TENSORS_BYTES
    default = max([_MIN_REGION_BYTES, *(regions[name] for name in regions.keys() - fronts)])
    growth = limits.max_upload_bytes + _SPARE_GROWTH_BYTES
    for name in fronts:
        num_steps = 1 + max(0, -(-(regions[name] - default) // growth))
        regions[name] = default + num_steps * growth
    num_threads = _parameter(decode, "num_threads", 0)  # only decoders on the GPU are told
    image_size = max(stream.size or 0 for stream in streams)
    decoding = decode_memory(
        max_side_pixels=limits.max_side_pixels, image_size=image_size, num_threads=num_threads or 1
    )
    return MemoryNeeds(
        region_bytes=default,
        region_growth_bytes=growth,
        region_budgets={name: regions[name] if name in fronts else default for name in python},
        num_stubs=num_stubs,
        cuda_pool_bytes=max(_MIN_CUDA_BYTES, pool),
        pinned_pool_bytes=max(_MIN_PINNED_BYTES, pool),
        decode_process_bytes=decoding.total if num_threads else 0,
        num_decode_processes=_num_instances(decode) if num_threads else 0,
        server_bytes=num_requests * limits.max_upload_bytes + _SPARE_SERVER_BYTES,
    )


def read_configs(model_repository: Path) -> dict[str, ModelConfig]:
    """Return the configuration of every model by name, or say which one cannot be read."""
    make = extras.tritonclient.grpc.model_config_pb2.ModelConfig
    text_format = extras.google.protobuf.text_format
    configs = {}
    for path in sorted(model_repository.glob("*/config.pbtxt")):
        try:
            configs[path.parent.name] = text_format.Parse(path.read_text("utf-8"), make())
        except (text_format.ParseError, OSError, UnicodeDecodeError) as error:  # changed in place
            raise EngineMismatchError(
                f"{path} is no readable model configuration; rebuild the engine directory"
            ) from error
    return configs


def free_bytes() -> int:
    """Return the shared memory that is left."""
    status = os.statvfs(SHM_DIR)
    return status.f_bavail * status.f_frsize


def check_room(num_bytes: int) -> int:
    """Return the MiB of shared memory needed; with less a stub would be killed amid a request."""
    num_free = free_bytes()
    needed = -(-num_bytes // MIB)  # rounded up: a message of less would not be enough
    if num_free < num_bytes:
        raise UnavailableError(
            f"the models need {needed} MiB of shared memory, {SHM_DIR} has {num_free // MIB} MiB "
            f"free; with Docker: --shm-size={needed}m; in Kubernetes mount an emptyDir with "
            f"medium: Memory and sizeLimit: {needed}Mi on {SHM_DIR}"
        )
    return needed


def _num_instances(config: ModelConfig) -> int:
    return sum(group.count for group in config.instance_group)


def _parameter(config: ModelConfig, name: str, default: int) -> int:
    return int(config.parameters[name].string_value) if name in config.parameters else default


def _tensor_names(config: ModelConfig) -> set[str]:
    return {tensor.name for tensor in [*config.input, *config.output]}


def _feature_bytes(config: ModelConfig) -> int:
    """Return the bytes of one number in a model's FEATURES, 0 where it has none."""
    kinds = extras.tritonclient.grpc.model_config_pb2.DataType
    sizes = {kinds.Value("TYPE_FP16"): 2, kinds.Value("TYPE_FP32"): 4}
    tensors = (one for one in [*config.input, *config.output] if one.name == "FEATURES")
    return max((sizes[one.data_type] for one in tensors), default=0)
