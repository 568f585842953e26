"""What runners that serve an engine directory of the caller's choice have in common."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks._checkpoint import SEEDED_CHECKPOINT
from engine_build import build


@contextmanager
def prepared(
    parser: argparse.ArgumentParser, *, clip: str
) -> Iterator[tuple[argparse.Namespace, Path]]:
    """Parse the arguments, with `engines`, `clip` and `out` among them, and give a folder.

    Args:
        parser: With the runner's own options.
        clip: Name of the clip to ask about where `--clip` names none.
    """
    parser.add_argument("--engines", type=Path, help="the tests' smallest ones where left out")
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    args.clip = args.clip or Path(os.environ.get("GROUNDSERVE_CLIPS_DIR", ".venv/clips")) / clip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.engines is None:
            args.engines = folder / "engines"
            build(SEEDED_CHECKPOINT, args.engines, profile="cpu")
        yield args, folder
