"""/dev/shm, where the server and its stubs hand each other tensors.

Each stub has one region there. It starts at one size for all models, grows by at least one step
when a tensor does not fit, and never shrinks. In small steps it would grow far beyond what it ever
holds: room that is free but in pieces is not used. So it starts large enough for all that our
models hand each other, and one step makes room for the largest request of the one model that takes
uploads. Segments of videos are not handed over here: see `python_backend.handover`.

P = frames of a chunk       CHUNK_FRAMES x bytes of a frame of each stream; as decoded
                            CHUNK_BYTES, or one of the largest that are let in
F = features of a video     max_feature_tokens x feature_width x 4 (2 where they are float16)
N = chunks of a request that are encoded at once, `python_backend.chunks.NUM_SERVED_ENCODES`

    video_features     the upload, (2 N + 1) P + F: each chunk being encoded and the copy that the
                       call makes of it, the group decoded ahead; features of chunks, then of all.
                       (A chunk of several groups is a copy in the process's own memory.)
    video_decode       P
    vision_encoder     P + F
    grounding          F
    generation         F

Source: triton-inference-server/python_backend 01d0ad8 (r24.10) and f9088ff, src/shm_manager.cc,
`GrowIfNeeded`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from groundserve.errors import UnavailableError
from groundserve.limits import MIB, Limits
from groundserve.manifest import CHUNK_FRAMES
from groundserve.serving.repository import feature_bytes, num_instances
from groundserve.serving.run_folder import SHM_DIR
from groundserve.serving.stubs import Stub
from groundserve.serving.video_tensors import VideoTensors

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

_MIN_DEFAULT_BYTES = 32 * MIB
_SMALL_TENSORS_BYTES = 4 * MIB
"""Questions, indices, scores, messages, and what lies between two tensors."""
_SMALL_PLAN_INPUTS_BYTES = 2 * MIB
"""Part of them that is for what of the plan goes into the vision stage; more comes on top."""


@dataclass(frozen=True, kw_only=True)
class RegionSizes:
    """How large the regions of a server's stubs are."""

    default_bytes: int
    """Of every region at its start."""
    growth_bytes: int
    """Added when a tensor does not fit; more than the largest tensor of a request."""
    budgets: Mapping[str, int]
    """By model: what a region takes at most as long as requests are such as `Limits` allow."""
    num_stubs: Mapping[str, int]
    """By model: how many regions there are."""
    swappable: frozenset[str]
    """Models that can be loaded a second time while they work; not those with an engine on a GPU,
    where there may be no room for another."""

    @property
    def total_bytes(self) -> int:
        """What all regions take when each stub has worked on a largest request."""
        return sum(self.budgets[model] * number for model, number in self.num_stubs.items())

    def crowding_models(self, stubs: Iterable[Stub], *, shm_dir: Path = SHM_DIR) -> set[str]:
        """Return the models whose stubs hold room that the others are short of.

        None as long as all regions could still grow to their budgets: what is free does no harm.

        Args:
            stubs: Those that live and were not replaced.
            shm_dir: Where their regions lie.
        """
        sizes = {stub: _region_bytes(shm_dir, stub) for stub in stubs}
        missing = sum(max(0, self.budgets[stub.model] - size) for stub, size in sizes.items())
        if free_bytes(shm_dir) >= missing:
            return set()
        outgrown = {stub.model for stub, size in sizes.items() if size > self.budgets[stub.model]}
        return outgrown & self.swappable


def region_sizes(
    configs: Mapping[str, ModelConfig], tensors: VideoTensors, limits: Limits
) -> RegionSizes:
    """Return the sizes for a repository.

    On a GPU frames and features pass here as well: those that the CPU decoded, and those out of the
    cache, lie on the host.

    Args:
        configs: As `read_configs` returns them.
        tensors: Of the engines' family and model.
        limits: Ceilings of a request.
    """
    python = {name: config for name, config in configs.items() if config.backend == "python"}
    needs = {
        name: _tensor_bytes(config, tensors, limits) + _SMALL_TENSORS_BYTES
        for name, config in python.items()
    }
    uploads = {name for name, config in python.items() if "VIDEO" in _tensor_names(config)}
    others = [needs[name] for name in python.keys() - uploads]
    default_bytes = max([_MIN_DEFAULT_BYTES, *others])
    upload_bytes = limits.max_upload_bytes + MIB  # and the few that an allocation takes besides
    # One step for all models, for the server has one setting; only those with uploads need it.
    growth_bytes = max([upload_bytes, *(needs[name] - default_bytes for name in uploads)])
    return RegionSizes(
        default_bytes=default_bytes,
        growth_bytes=growth_bytes,
        budgets={name: default_bytes + (growth_bytes if name in uploads else 0) for name in python},
        num_stubs={name: num_instances(config) for name, config in python.items()},
        swappable=frozenset(
            name for name, config in python.items() if not _fills_gpu(config, tensors)
        ),
    )


def free_bytes(shm_dir: Path) -> int:
    """Return the room that is left."""
    status = os.statvfs(shm_dir)
    return status.f_bavail * status.f_frsize


def needed_mib(num_bytes: int) -> int:
    """Return how many MiB to give, rounded up: a message of less would not be enough."""
    return -(-num_bytes // MIB)


def check_room(num_bytes: int, *, shm_dir: Path = SHM_DIR) -> None:
    """Look whether there is that much free shared memory.

    Args:
        num_bytes: What all regions may take: `RegionSizes.total_bytes`.
        shm_dir: Where they lie.

    Raises:
        UnavailableError: There is less; a stub would be killed amid a request.
    """
    num_free = free_bytes(shm_dir)
    if num_free < num_bytes:
        needed = needed_mib(num_bytes)
        raise UnavailableError(
            f"the models need {needed} MiB of shared memory, {shm_dir} has {num_free // MIB} MiB "
            f"free; with Docker: --shm-size={needed}m; in Kubernetes mount an emptyDir with "
            f"medium: Memory and sizeLimit: {needed}Mi on {shm_dir}"
        )


def _tensor_names(config: ModelConfig) -> set[str]:
    return {tensor.name for tensor in [*config.input, *config.output]}


def _tensor_bytes(config: ModelConfig, tensors: VideoTensors, limits: Limits) -> int:
    from python_backend.chunks import NUM_SERVED_ENCODES

    names = _tensor_names(config)
    num_bytes = tensors.num_features * (feature_bytes(config) or 0)
    num_chunks = 0
    if "VIDEO" in names:
        num_bytes += limits.max_upload_bytes
        num_chunks = 2 * NUM_SERVED_ENCODES + 1
    elif names & tensors.stream_names:
        num_chunks = 1
    plan_inputs = num_chunks * CHUNK_FRAMES * tensors.plan_input_bytes
    num_bytes += num_chunks * tensors.chunk_bytes
    return num_bytes + max(0, plan_inputs - _SMALL_PLAN_INPUTS_BYTES)


def _fills_gpu(config: ModelConfig, tensors: VideoTensors) -> bool:
    from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup

    # What takes frames or features there holds an engine; `video_features` is on the GPU for its
    # tensors.
    is_on_gpu = any(group.kind == ModelInstanceGroup.KIND_GPU for group in config.instance_group)
    taken = {tensor.name for tensor in config.input}
    return is_on_gpu and bool(taken & {"FEATURES", *tensors.stream_names})


def _region_bytes(shm_dir: Path, stub: Stub) -> int:
    with suppress(FileNotFoundError):  # it has just ended
        return (shm_dir / stub.region).stat().st_size
    return 0
