"""What scores: a checkpoint or an engine directory in this process, or a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from groundserve.client import Client
from groundserve.errors import InvalidRequestError
from groundserve.scoring.shipped import shipped_engine_dir


def open_scorer(
    checkpoint: str | None,
    engines: Path | None,
    server: str | None,
    *,
    vision_tower: str | None = None,
    device: str | None = None,
) -> Any:
    """Open what the options name: a `Pipeline` or a `Client`, to be used as a context.

    Args:
        checkpoint: `--checkpoint`, scored by PyTorch.
        engines: `--engines`.
        server: `--server`. With none of the three, the shipped checkpoint's engines.
        vision_tower: `--vision-tower`, which goes with a checkpoint.
        device: `--device`, which goes with a checkpoint.

    Raises:
        InvalidRequestError: Several are given, or one that goes with another is given alone.
        UnsupportedError: There is no such device.
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
        return Client(server)
    from python_backend.pipeline import Pipeline

    if checkpoint is not None:
        return Pipeline.from_checkpoint(
            checkpoint,
            vision_tower=vision_tower,
            device=device,  # type: ignore[arg-type]  # checked by the profile
        )
    return Pipeline.open(engines or shipped_engine_dir())
