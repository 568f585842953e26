"""`--frames` of `groundserve score`: what is checked before any work, and what is written after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from groundserve.cli._checks import STDIN
from groundserve.cli._output import progress
from groundserve.errors import InvalidRequestError
from groundserve.frame_files import FrameFiles
from groundserve.results import ScoreResult


def check_frames(
    directory: Path | None, image_format: str | None, *, video: Path, queries: Sequence[str]
) -> FrameFiles | None:
    """Return what writes the frames later; None where none are asked for.

    Raises:
        InvalidRequestError: See `FrameFiles`, or the format is given alone.
    """
    if directory == STDIN:
        raise InvalidRequestError("--frames must name a folder, got -")
    if directory is None:
        if image_format is not None:
            raise InvalidRequestError("--frames-format goes with --frames")
        return None
    return FrameFiles(
        directory,
        video,
        queries=queries,
        image_format=image_format or "png",  # type: ignore[arg-type]  # checked there
    )


def write_frames(files: FrameFiles | None, result: ScoreResult) -> dict[str, str]:
    """Write the frames where they are asked for; return what `--json` adds to the answer."""
    if files is None:
        return {}
    with progress("writing frames"):
        return {"frames_index": str(files.write(result))}
