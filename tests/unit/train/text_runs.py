"""Runs of families that answer in text, on the tiny checkpoints that their references recorded."""

import atexit
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from tests.fixtures.training_ref.vtgllm.before import make_before
from tests.support.reference import REPOSITORY
from train.config import AdapterConfig, PartsConfig
from train.families import find_family

FIXTURES = REPOSITORY / "tests" / "fixtures"
VTIMELLM = FIXTURES / "vtimellm"
GROUNDED = FIXTURES / "grounded_videollm"


def _vtimellm(stage, out):
    images = FIXTURES / "training_ref" / "vtimellm" / "images.json"
    config = find_family(None, stage).stages[stage](
        init=VTIMELLM / "checkpoints",
        records=images if stage == "vtimellm-1" else VTIMELLM / "train" / "samples.json",
        media_root=VTIMELLM / "features",
        out=out,
    )
    adapter = None if config.adapter is None else AdapterConfig(rank=8, alpha=16, dropout=0.0)
    return replace(config, adapter=adapter)


@cache
def _weights(llm):
    """Return the weight folder with files of the stages before the last."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    for path in GROUNDED.glob("weight_path/*"):
        if path.name != "ckpt":
            (folder / path.name).symlink_to(path)
    (folder / "ckpt").mkdir()
    (tuned,) = GROUNDED.glob(f"weight_path/ckpt/sft_*_{llm}_*.pth")
    (folder / "ckpt" / f"grounded_x_{llm}_x.pth").symlink_to(tuned)
    modules = torch.load(tuned)["model"]
    del modules["language_model"]
    torch.save({"model": modules}, folder / "ckpt" / f"pretrain_x_{llm}_x.pth")
    return folder


def _grounded(stage, out):
    stage, _, llm = stage.partition(" ")
    config = find_family(None, stage).stages[stage](
        init=_weights(llm),
        records=FIXTURES / "training_ref" / "grounded_videollm" / "records.json",
        media_root=GROUNDED / "clips",
        out=out,
    )
    adapter = config.adapter and replace(config.adapter, dropout=0.0)
    data = replace(config.data, max_frames=16)
    parts = PartsConfig(llm=llm, clip_heads=4, internvideo_heads=4)
    return replace(config, adapter=adapter, data=data, parts=parts)


@cache
def _vtgllm_before():
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    make_before(folder)
    return folder


def _vtgllm(stage, out):
    stage, _, frozen = stage.partition(" ")
    config = find_family(None, stage).stages[stage](
        init=_vtgllm_before(),
        records=FIXTURES / "training_ref" / "vtgllm" / "records.json",
        media_root=_vtgllm_before(),
        out=out,
    )
    return replace(
        config,
        adapter=replace(config.adapter, dropout=0.0, is_trained=not frozen),
        data=replace(config.data, max_frames=8),
        parts=PartsConfig(eva_heads=3),
    )


# Family -> config of a stage, and the rates of the recorded steps.
_CONFIGS = {
    "vtimellm": (_vtimellm, {"learning_rate": 1e-2}),
    "grounded-videollm": (
        _grounded,
        {"learning_rate": 1e-3, "adapter_learning_rate": 2e-3, "warmup_ratio": 0.3},
    ),
    "vtgllm": (
        _vtgllm,
        {
            "learning_rate": 1e-2,
            "warmup_learning_rate": 1e-4,
            "min_learning_rate": 1e-3,
            "warmup_ratio": 0.4,
            "eps": 1e-8,
        },
    ),
}
_PRETRAIN = {"learning_rate": 1e-2, "spatial_learning_rate": 1e-3, "adapter_learning_rate": None}
STAGES = (
    *(f"vtimellm-{number}" for number in (1, 2, 3)),
    "grounded-videollm-pretrain phi3.5",
    "grounded-videollm-sft llama3",
    "vtgllm-instruct",
)
"""Of which whole runs are made here."""


def recorded_config(stage, out):
    """The config of the recorded steps; the name of a decoder may follow the stage."""
    make, rates = _CONFIGS[stage.rpartition("-")[0]]
    if "pretrain" in stage:
        rates = {**rates, **_PRETRAIN}
    config = make(stage, out)
    return replace(config, optimizer=replace(config.optimizer, **rates))


def make_config(stage, out):
    """Six steps in one process, in which an adapter drops some of its inputs."""
    config = recorded_config(stage, out)
    adapter = config.adapter and replace(config.adapter, dropout=0.1)
    return replace(
        config,
        adapter=adapter,
        batch_size=1,
        accumulation_steps=1,
        max_steps=6,
        precision="fp32",
        gradient_checkpointing=False,
        parallelism="none",
        save_every_steps=3,
    )
