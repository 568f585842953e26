"""What scores or answers: a checkpoint or an engine directory in this process, or a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from groundserve.arguments import check_head, parse_url
from groundserve.client import Client
from groundserve.engines.manifest import Manifest
from groundserve.engines.profiles import get_profile
from groundserve.errors import InvalidRequestError, UnavailableError
from groundserve.families import get_text_family
from groundserve.families.base import Family, TextFamily
from groundserve.limits import Limits
from groundserve.runtime.gpu import current_gpu_arch
from groundserve.runtime.own_packages import require_own
from groundserve.scorer import Answerer, Scorer
from groundserve.scoring.checkpoint_family import checkpoint_family
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
    require_own("python_backend")
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


def open_answerer(
    checkpoint: str | None,
    engines: Path | None,
    server: str | None,
    *,
    family: str | None = None,
    parts: Mapping[str, Sequence[str]] | None = None,
    device: str | None = None,
    limits: Limits | None = None,
    num_threads: int | None = None,
    cache: Features | None = None,
) -> Answerer:
    """Open what the options name, as `open_scorer` does, of a family that answers in text.

    Raises:
        InvalidRequestError, UnsupportedError, EngineMismatchError: As `check_answerer`.
        UnavailableError: The device is a GPU, and there is none here.
    """
    check_answerer(checkpoint, engines, server, family=family, parts=parts, device=device)
    if server is not None:
        return Client(server)
    if device == "cuda":
        _check_cuda()
    require_own("python_backend")
    from python_backend.pipeline import Pipeline

    if checkpoint is not None:
        return Pipeline.from_checkpoint(
            checkpoint,
            family=family,
            parts=parts,
            device=device,  # type: ignore[arg-type]  # checked by the profile
            limits=limits,
            num_threads=num_threads,
            cache=cache,
        )
    assert engines is not None, "one of the three is given"
    return Pipeline.open(engines, limits=limits, num_threads=num_threads, cache=cache)


def check_scorer(
    checkpoint: str | None,
    engines: Path | None,
    server: str | None,
    *,
    vision_tower: str | None = None,
    device: str | None = None,
) -> None:
    """Refuse what `open_scorer` could not open, without loading or connecting to anything.

    Raises:
        InvalidRequestError: Several are given, one that goes with another is given alone, or there
            is no such checkpoint or engine directory.
        UnsupportedError: There is no such device, or the family answers in text.
        EngineMismatchError: The engine directory is of another version, or damaged.
    """
    with_checkpoint = {"--vision-tower": vision_tower, "--device": device}
    _check_given(checkpoint, engines, server, with_checkpoint)
    if checkpoint is not None:
        family = checkpoint_family(checkpoint, vision_tower=vision_tower)
        check_head(family.name, family.head, called="frames")
    _check_device(device)
    if engines is not None:
        family = Manifest.load(engines).seam
        check_head(family.name, family.head, called="frames")


def check_answerer(
    checkpoint: str | None,
    engines: Path | None,
    server: str | None,
    *,
    family: str | None = None,
    parts: Mapping[str, Sequence[str]] | None = None,
    device: str | None = None,
) -> TextFamily[Any] | None:
    """Refuse what `open_answerer` could not open, without loading or connecting to anything.

    Returns:
        The family that answers; None where a server has it.

    Raises:
        InvalidRequestError: As `check_scorer`, or none of the three is given.
        UnsupportedError: There is no such device, family or part, or the family scores frames.
        EngineMismatchError: The engine directory is of another version, or damaged.
    """
    with_checkpoint = {"--family": family, "--part": parts or None, "--device": device}
    _check_given(checkpoint, engines, server, with_checkpoint)
    if checkpoint is None and engines is None and server is None:
        raise InvalidRequestError(
            "give --checkpoint, --engines or --server of a model that answers in text; the one "
            "that comes with groundserve scores frames: groundserve score"
        )
    found: Family[Any, Any] | None = None
    if checkpoint is not None:
        found = checkpoint_family(checkpoint, family=family, parts=parts)
    _check_device(device)
    if engines is not None:
        found = Manifest.load(engines).seam
    if found is None:
        return None
    check_head(found.name, found.head, called="text")
    return get_text_family(found.name)


def _check_given(
    checkpoint: str | None,
    engines: Path | None,
    server: str | None,
    with_checkpoint: Mapping[str, object],
) -> None:
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
    for name, value in with_checkpoint.items():
        if value is not None and checkpoint is None:
            raise InvalidRequestError(f"{name} goes with --checkpoint")
    if server is not None:
        parse_url("--server", server)


def _check_device(device: str | None) -> None:
    if device is not None:
        get_profile("torch").choose(device)  # type: ignore[arg-type]  # that is what it checks


def _check_cuda() -> None:
    if current_gpu_arch() is None:
        raise UnavailableError(
            "--device cuda: PyTorch finds no GPU on this machine; leave --device out to run on "
            "the CPU, and see nvidia-smi and CUDA_VISIBLE_DEVICES"
        )
