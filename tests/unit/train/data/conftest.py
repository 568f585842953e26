"""Media whose frames can be told apart, and the data of a stage."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer

from tests.unit.train.data.samples import make_format, write_video
from train.config import DataConfig
from train.data import TrainingData
from train.families.base import SampleCost


@pytest.fixture(scope="session")
def media_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`a.mp4` to `e.mp4`: 3 s, `long.mp4`: 6 s; `a.png`; `damaged.mp4`, `damaged.png`."""
    root = tmp_path_factory.mktemp("media")
    for name in "abcde":
        write_video(root / f"{name}.mp4", num_frames=30)
    write_video(root / "long.mp4", num_frames=60)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    Image.fromarray(pixels).save(root / "a.png")
    for name in ("a.mp4", "a.png"):
        data = (root / name).read_bytes()
        (root / f"damaged{name[1:]}").write_bytes(data[: len(data) // 2])
    return root


MakeConfig = Callable[..., DataConfig]


@pytest.fixture
def make_config(tmp_path: Path, media_root: Path) -> MakeConfig:
    """Write records and return a config that reads them."""

    def make(records: list[Any], **changes: Any) -> DataConfig:
        path = tmp_path / "records.json"
        path.write_text(json.dumps(records))
        values = {
            "records": path,
            "media_root": media_root,
            "template": "plain",
            "max_frames": 1024,
            "vision_token_num": 300,
            "vision_min_num": 1,
            "max_length": 1000,
        }
        return DataConfig(**{**values, **changes})

    return make


@pytest.fixture
def make_data(make_config: MakeConfig, tokenizer: Tokenizer) -> Iterator[Callable[..., Any]]:
    """Return `TrainingData` over records; all are closed after the test."""
    opened = []

    def make(
        records: list[Any],
        *,
        stage: str = "grounding",
        seed: int = 0,
        cost: SampleCost | None = None,
        **changes: Any,
    ) -> TrainingData:
        config = make_config(records, **changes)
        data = TrainingData(
            config,
            stage=stage,
            samples=make_format(config, tokenizer, stage=stage),
            seed=seed,
            cost=cost,
        )
        opened.append(data)
        return data

    yield make
    for data in opened:
        data.close()
