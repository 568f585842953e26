"""What tests of families share: recorded vectors, videos that are an index alone, copies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from groundserve import families
from groundserve.media import VideoIndex
from tests.support.reference import REPOSITORY

HASHES = ("sha256", "vision_sha256")


def load_vectors(reference_set: str) -> list[dict[str, Any]]:
    """Read what is kept of a set."""
    path = REPOSITORY / "tests" / "fixtures" / reference_set / "plans.json"
    vectors: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    return vectors


def label(vector: dict[str, Any]) -> str:
    return str(vector["names"][0])


def open_copy(opened: Any, folder: Path, *loads: str) -> Any:
    """Copy an opened checkpoint, and open the copy: it is known again, and the same model."""
    opened.copy_to(folder)
    name = families.recognise_family(folder)
    assert name is not None
    again = type(opened).open(folder, parts={})
    before, after = opened.describe(), again.describe()
    assert {key: before[key] for key in HASHES} == {key: after[key] for key in HASHES}
    for load in loads:
        found, wanted = (getattr(one, load)().state_dict() for one in (again, opened))
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], tensor) for key, tensor in wanted.items())
    again.load_tokenizer()
    return name, again


def video(num_source_frames: int, average_fps: float = 25.0) -> VideoIndex:
    """A video of constant rate."""
    return VideoIndex(
        average_fps=average_fps,
        pts_seconds=np.arange(num_source_frames) / average_fps,
        is_key=np.arange(num_source_frames) == 0,
        width=64,
        height=48,
        codec_name="h264",
        container_name="mp4",
    )
