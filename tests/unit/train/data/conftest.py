"""A small Qwen2-like tokenizer, and media whose frames can be told apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tests.unit.train.data.samples import make_format, write_video
from train.config import DataConfig
from train.cost import SampleCost
from train.data import TrainingData

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Byte-level, with Qwen2's pre-tokenizer: "?" and a newline are one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["What?\n", "When?\n", "assistant", "user"] * 3, trainer)
    return tokenizer


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
