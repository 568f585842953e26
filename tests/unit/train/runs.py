"""Runs of the tiny reference checkpoint on records that are made up."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from groundserve.families.videoitg.prompt import IMAGE_TOKEN_ID
from groundserve.weights.torch_archive import read_torch_file
from tests.support.reference import SET_1
from train.config import DataConfig, OptimizerConfig, StageConfig
from train.data import Batch, TrainingData, Unreadable
from train.examples import Example, Text
from train.families import find_family, stage_family
from train.logs import read_metrics
from train.loop import Run
from train.parallel import open_processes
from train.state import prepare_out

NUM_ITEMS = 8
NUM_AUXILIARY = 3
SECONDS = {"data_seconds", "compute_seconds"}


class FakeData:
    """Items of random frames, read in order; pass n of rank r has item n * W + r."""

    def __init__(self, *, unreadable=(), wait=0.0):
        self.unreadable = set(unreadable)
        self.wait = wait

    def __len__(self):
        return NUM_ITEMS

    def batches(self, *, first, last, rank, world_size, batch_size, accumulation_steps):
        for number in range(first, last):
            time.sleep(self.wait)
            item = (number * world_size + rank) % NUM_ITEMS
            if item in self.unreadable:
                lost = Unreadable(item=item, source=f"{item}.mp4", reason="it is broken")
                yield Batch(examples=(), unreadable=(lost,))
            else:
                yield Batch(examples=(make_example(item),), unreadable=())


def make_example(item):
    """Two questions about 2 to 4 frames."""
    rng = np.random.default_rng(item)
    num_frames = 2 + item % 3
    texts = tuple(
        Text(
            ids=np.array([IMAGE_TOKEN_ID, *rng.integers(1, 300, 3 + k)], np.int64),
            targets=np.array([-100, *rng.integers(1, 300, 3 + k)], np.int64),
            labels=rng.integers(0, 2, num_frames).astype(np.float32),
        )
        for k in range(2)
    )
    return Example(
        frames=rng.integers(0, 256, (num_frames, 112, 112, 3), np.uint8),
        tokens_per_frame=(1 + item % 2) ** 2,
        texts=texts,
        frame_targets=rng.integers(0, 2, (num_frames, NUM_AUXILIARY)).astype(np.float32),
    )


def make_config(out, **changes):
    """Six steps of stage 4, of one pass each."""
    optimizer = {"learning_rate": 1e-3, "out_proj_learning_rate": 1e-2, "warmup_ratio": 0.2}
    config = StageConfig(
        stage="grounding",
        init=SET_1 / "videoitg-tiny",
        out=Path(out),
        data=DataConfig(
            records=Path("records.json"),
            media_root=Path(),
            template="plain",
            max_frames=8,
            vision_token_num=256,
            vision_min_num=1,
            max_length=512,
        ),
        optimizer=OptimizerConfig(**optimizer | changes.pop("optimizer", {})),
        max_steps=6,
        precision="fp32",
        gradient_checkpointing=False,
        auxiliary_weight=0.5,
        save_every_steps=3,
    )
    return replace(config, **changes)


def run(config, *, data=None, resume=False, **arguments):
    """Train on fake records; returns the lines of metrics without times."""
    with open_processes(config.parallelism) as processes:
        run_in(processes, config, data=data, resume=resume, **arguments)
    return metrics(config.out)


def run_in(processes, config, *, data=None, resume=False, **arguments):
    """The same in processes that are open already."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tensors are tiny; 16 times faster where other work runs
    try:
        processes.on_first(lambda: config.out.mkdir(parents=True, exist_ok=True))
        processes.on_first(lambda: prepare_out(config.out, resume=resume))
        initial = find_family(config.init, config.stage).open_initial(
            config, num_auxiliary=NUM_AUXILIARY * (config.auxiliary_weight > 0)
        )
        with ExitStack() as stack:
            if data is None and stage_family(config.stage):
                data = stack.enter_context(read_data(config, initial))
            trained = Run(config, data=data or FakeData(), initial=initial, processes=processes)
            trained.finish(**arguments)
    finally:
        torch.set_num_threads(threads)


def read_data(config, initial):
    """The records of a text family, which are read as in any run."""
    samples, cost = initial.samples(config), initial.sample_cost(config)
    return TrainingData(
        config.data, stage=config.stage, samples=samples, seed=config.seed, cost=cost
    )


def metrics(out):
    return [
        {name: value for name, value in line.items() if name not in SECONDS}
        for line in read_metrics(Path(out))
    ]


def losses(lines):
    return [line["loss"] for line in lines if "loss" in line]


def checkpoints(out):
    return sorted(path.name for path in Path(out).glob("*checkpoint-*"))


def weights(out):
    """Every tensor of a run's result, of a text family what the stage itself wrote."""
    final = Path(out) / "final"
    if (final / "model.safetensors").is_file():
        return load_file(final / "model.safetensors")
    stage = json.loads((final / "config.json").read_text())["stage"]
    found = {}
    for path in (*final.glob(f"vtimellm-*-stage{stage[-1]}/*.bin"), *final.glob("ckpt/*.pth")):
        found |= read_torch_file(path, inside="model")
    return found


def assert_same_weights(out, expected_out, **tolerance):
    found, expected = weights(out), weights(expected_out)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, **(tolerance or {"rtol": 0, "atol": 0}), msg=name
        )
