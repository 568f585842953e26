"""What scores: a checkpoint or an engine directory in this process, or a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from groundserve.arguments import check_url
from groundserve.checkpoint_place import find_checkpoint
from groundserve.client import Client
from groundserve.errors import InvalidRequestError, UnavailableError
from groundserve.gpu import current_gpu_arch
from groundserve.limits import Limits
from groundserve.manifest import Manifest
from groundserve.profiles import get_profile
from groundserve.scorer import Scorer
from groundserve.scoring.shipped import shipped_engine_dir

if TYPE_CHECKING:
    from python_backend.cache import Features


def open_scorer(
    checkpoint: str | None,
    engines: Path | None,
    server: str | None,
    *,
    vision_tower: str | None = None,
    device: str | None = None,
    limits: Limits | None = None,
    num_threads: int | None = None,
    cache: Features | None = None,
) -> Scorer:
    """Open what the options name: a `Pipeline` or a `Client`, to be used as a context.

    Args:
        checkpoint: `--checkpoint`, scored by PyTorch.
        engines: `--engines`.
        server: `--server`. With none of the three, the shipped checkpoint's engines.
        vision_tower: `--vision-tower`, which goes with a checkpoint.
        device: `--device`, which goes with a checkpoint.
        limits: As `Pipeline.open` takes it; a server has its own. So are all others.
        num_threads: See there.
        cache: See there.

    Raises:
        InvalidRequestError, UnsupportedError, EngineMismatchError: As `check_scorer`.
        UnavailableError: The device is a GPU, and there is none here.
    """
    check_scorer(checkpoint, engines, server, vision_tower=vision_tower, device=device)
    if server is not None:
        return Client(server)
    if device == "cuda":
        _check_cuda()
    from python_backend.pipeline import Pipeline

    if checkpoint is not None:
        return Pipeline.from_checkpoint(
            checkpoint,
            vision_tower=vision_tower,
            device=device,  # type: ignore[arg-type]  # checked by the profile
            limits=limits,
            num_threads=num_threads,
            cache=cache,
        )
    return Pipeline.open(
        engines or shipped_engine_dir(), limits=limits, num_threads=num_threads, cache=cache
    )


def check_scorer(
    checkpoint: str | None,
    engines: Path | None,
    server: str | None,
    *,
    vision_tower: str | None = None,
    device: str | None = None,
) -> None:
    """Refuse what `open_scorer` could not open, without loading or connecting to anything.

    Args:
        checkpoint: As `open_scorer` takes it; so are all others.
        engines: `--engines`.
        server: `--server`.
        vision_tower: `--vision-tower`.
        device: `--device`.

    Raises:
        InvalidRequestError: Several are given, one that goes with another is given alone, or there
            is no such checkpoint or engine directory.
        UnsupportedError: There is no such device.
        EngineMismatchError: The engine directory is of another version, or damaged.
    """
    given = [
        name
        for name, value in (
            ("--checkpoint", checkpoint),
            ("--engines", engines),
            ("--server", server),
        )
        if value is not None
    ]
    if len(given) > 1:
        raise InvalidRequestError(f"give one of {' and '.join(given)}, not both")
    for name, value in (("--vision-tower", vision_tower), ("--device", device)):
        if value is not None and checkpoint is None:
            raise InvalidRequestError(f"{name} goes with --checkpoint")
    if server is not None:
        check_url("--server", server)
    for place in (checkpoint, vision_tower):
        if place is not None:
            find_checkpoint(place)
    if device is not None:
        get_profile("torch").choose(device)  # type: ignore[arg-type]  # that is what it checks
    if engines is not None:
        Manifest.load(engines)


def _check_cuda() -> None:
    if current_gpu_arch() is None:
        raise UnavailableError(
            "--device cuda: PyTorch finds no GPU on this machine; leave --device out to score on "
            "the CPU, and see nvidia-smi and CUDA_VISIBLE_DEVICES"
        )
