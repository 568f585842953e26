"""A corpus of generated videos with a manifest of questions."""

from __future__ import annotations

import json
from pathlib import Path

from train.digits.dataset import write_grounding_set

SECONDS = 48
"""Of each video."""
QUERIES = 5
"""Of each video."""


def make_corpus(folder: Path, *, num_videos: int, queries: int = QUERIES) -> Path:
    """Write MovingDigits videos, where they are not there already, and a manifest.

    Args:
        folder: Where videos and manifest go.
        num_videos: How many.
        queries: Questions of each.

    Returns:
        The manifest, a row for each question.
    """
    videos = sorted((folder / "videos").glob("*.mp4"))
    if len(videos) < num_videos:
        write_grounding_set(folder, split="test", seed=11, num_videos=num_videos)
        videos = sorted((folder / "videos").glob("*.mp4"))
    return write_manifest(
        folder / f"rows-{num_videos}x{queries}.jsonl", videos[:num_videos], queries
    )


def write_manifest(path: Path, videos: list[Path], queries: int) -> Path:
    """Write a row for each video and question, by video."""
    lines = [
        json.dumps(
            {
                "id": f"{number:05d}-{query:03d}",
                "video": str(video.resolve()),
                "query": f"When is the digit {query % 10} shown for the {query // 10 + 1}. time?",
            }
        )
        for number, video in enumerate(videos)
        for query in range(queries)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path
