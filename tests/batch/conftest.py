"""What tests of jobs share. A job starts Ray, which takes some ten seconds, so they are few."""

from __future__ import annotations

from pathlib import Path

import pytest

from train.digits.dataset import write_grounding_set


@pytest.fixture(scope="session")
def digit_videos(tmp_path_factory) -> list[Path]:
    """Six short MovingDigits videos."""
    folder = tmp_path_factory.mktemp("digits")
    write_grounding_set(folder, split="test", seed=3, num_videos=6, num_frames=8)
    return sorted((folder / "videos").iterdir())
