"""/dev/shm, where the server and its stubs hand each other tensors."""

from __future__ import annotations

import os
from collections.abc import Set
from pathlib import Path

from groundserve.errors import UnavailableError
from groundserve.limits import MIB, Limits
from groundserve.manifest import ModelSpec
from groundserve.serving.command import SHM_DEFAULT_BYTES
from groundserve.serving.repository import feature_bytes, num_instances, read_configs

SHM_DIR = Path("/dev/shm")


def needed_bytes(model_repository: Path, model: ModelSpec, limits: Limits) -> int:
    """Return what the stubs of a rendered repository take when each works on a largest request.

    A stub's region starts at `SHM_DEFAULT_BYTES`, grows with the tensors it holds, never shrinks.
    On a GPU features pass here as well: those out of the cache lie on the host. Frames may, too, as
    long as a video's features are not complete: `video_features` holds those of each chunk that is
    being encoded, and those of the next while they arrive.
    """
    from python_backend.chunks import CHUNK_FRAMES, NUM_SERVED_ENCODES

    frames = (NUM_SERVED_ENCODES + 1) * CHUNK_FRAMES * model.image_size**2 * 3
    total = 0
    for config in read_configs(model_repository).values():
        if config.backend == "python":
            width = feature_bytes(config) or 0
            room = model.vision_token_num * model.vision_hidden_size * width
            if any(tensor.name == "VIDEO" for tensor in config.input):
                room = limits.max_upload_bytes + max(room, frames)
            total += num_instances(config) * (SHM_DEFAULT_BYTES + room)
    return total


def check_room(num_bytes: int, *, shm_dir: Path = SHM_DIR) -> None:
    """Look whether there is that much free shared memory.

    Raises:
        UnavailableError: There is less; a stub would be killed amid a request.
    """
    status = os.statvfs(shm_dir)
    free_bytes = status.f_bavail * status.f_frsize
    if free_bytes < num_bytes:
        needed = -(-num_bytes // MIB)
        raise UnavailableError(
            f"the models need {needed} MiB of shared memory, {shm_dir} has {free_bytes // MIB} MiB "
            f"free; with Docker: --shm-size={needed}m; in Kubernetes mount an emptyDir with "
            f"medium: Memory and sizeLimit: {needed}Mi on {shm_dir}"
        )


def remove_regions(prefix: str, *, keep: Set[str]) -> None:
    """Remove the files of one server, except those of the stubs that live."""
    for file in SHM_DIR.glob(f"{prefix}*"):
        if file.name not in keep:
            file.unlink(missing_ok=True)
