"""What scores or answers: a checkpoint or an engine directory in this process, or a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from groundserve.arguments import check_head, parse_url
from groundserve.client import Client
from groundserve.engines.manifest import Manifest
from groundserve.engines.profiles import get_profile
from groundserve.errors import InvalidRequestError, UnavailableError
from groundserve.families import get_text_family, recognise_family
from groundserve.families.base import Family, TextFamily
from groundserve.limits import Limits
from groundserve.runtime.gpu import current_gpu_arch
from groundserve.scorer import Model
from groundserve.scoring.checkpoint_family import checkpoint_family
from groundserve.scoring.shipped import SHIPPED_ANSWERER, shipped_engine_dir
from python_backend.cache import Features
from python_backend.pipeline import Pipeline

Parts = Mapping[str, Sequence[str]]


def open_model(
    checkpoint: str | None,
    engines: Path | None,
    server: str | None,
    *,
    vision_tower: str | None = None,
    family: str | None = None,
    parts: Parts | None = None,
    device: str | None = None,
    limits: Limits | None = None,
    num_threads: int | None = None,
    cache: Features | None = None,
) -> Model:
    """Open what `check_scorer` or `check_answerer` found nothing wrong with, to use as a context.

    The arguments are the options of these names, then those of `Pipeline.open`; a server has its
    own. With none of the first three, the shipped checkpoint's engines are opened.

    Raises:
        UnavailableError: The device is a GPU, and there is none here.
    """
    if server is not None:
        return Client(server)
    if device == "cuda" and current_gpu_arch() is None:
        raise UnavailableError(
            "--device cuda: PyTorch finds no GPU on this machine; leave --device out to run on "
            "the CPU, and see nvidia-smi and CUDA_VISIBLE_DEVICES"
        )
    if checkpoint is not None:
        return Pipeline.from_checkpoint(
            checkpoint,
            vision_tower=vision_tower,
            family=family,
            parts=parts,
            device=device,  # type: ignore[arg-type]  # checked by the profile
            limits=limits,
            num_threads=num_threads,
            cache=cache,
        )
    return Pipeline.open(
        engines or shipped_engine_dir(), limits=limits, num_threads=num_threads, cache=cache
    )


open_scorer = open_model


def open_answerer(
    checkpoint: str | None, engines: Path | None, server: str | None, **how: Any
) -> Model:
    """Open a model as `open_model` does; with none of the three, the shipped one that answers."""
    if checkpoint is None and engines is None and server is None:
        engines = shipped_engine_dir(SHIPPED_ANSWERER)
    return open_model(checkpoint, engines, server, **how)


def check_scorer(
    checkpoint: str | None,
    engines: Path | None,
    server: str | None,
    *,
    vision_tower: str | None = None,
    device: str | None = None,
) -> None:
    """Refuse what could not score frames, without loading or connecting to anything."""
    found = _check(checkpoint, engines, server, vision_tower=vision_tower, device=device)
    if found is not None:
        check_head(found.name, found.head, called="frames")


def check_answerer(
    checkpoint: str | None,
    engines: Path | None,
    server: str | None,
    *,
    family: str | None = None,
    parts: Parts | None = None,
    device: str | None = None,
) -> TextFamily[Any] | None:
    """Refuse what could not answer in text, as `check_scorer` does.

    Return the family that answers, of the shipped checkpoint where nothing is given; None where a
    server has it.
    """
    found = _check(checkpoint, engines, server, family=family, parts=parts, device=device)
    if found is not None:
        check_head(found.name, found.head, called="text")
        return get_text_family(found.name)
    if server is None:
        return get_text_family(recognise_family(SHIPPED_ANSWERER))
    return None


def _check(
    checkpoint: str | None, engines: Path | None, server: str | None, **goes_with: Any
) -> Family[Any, Any] | None:
    """Return the family of a checkpoint or engine directory; None of a server and of neither."""
    places = {"--checkpoint": checkpoint, "--engines": engines, "--server": server}
    given = [name for name, value in places.items() if value is not None]
    if len(given) > 1:
        raise InvalidRequestError(f"give one of {' and '.join(given)}, not both")
    for name, value in goes_with.items():
        if value not in (None, {}) and checkpoint is None:
            option = name.removesuffix("s").replace("_", "-")
            raise InvalidRequestError(f"--{option} goes with --checkpoint")
    if server is not None:
        parse_url("--server", server)
    if (device := goes_with.pop("device")) is not None:
        get_profile("torch").choose(device)
    if checkpoint is not None:
        return checkpoint_family(checkpoint, **goes_with)
    return None if engines is None else Manifest.load(engines).seam
