"""How much memory does the first process take to write a checkpoint of sharded weights?

    python -m benchmarks.checkpoint_memory --out benchmarks/results/checkpoint_memory_cpu_DATE.json

Two processes share a model of random weights by `fsdp2` over gloo. Reported is what the first one's
resident memory peaks at above what it holds anyway: for a checkpoint of shards, for `final/` made
of it file by file, and for what both took before, weights and moments gathered in one process.
Each is measured in a launch of its own; the program starts itself under torchrun.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import psutil
import torch
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
)

from benchmarks._report import write_report
from benchmarks.gpu.size import FULL
from train.config import OptimizerConfig
from train.families.videoitg import layout
from train.families.videoitg.models import PoolingModel
from train.families.videoitg.stages import grounding
from train.optimizer import new_optimizer
from train.parallel import ParallelModel, Processes, open_processes
from train.state import Progress, SavedWeights, newest_checkpoint, save_state

WAYS = ("shards", "file_by_file", "gathered")
CONFIG = replace(
    FULL.checkpoint,
    vocab_size=16_384,
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=8,
    num_attention_heads=8,
    num_key_value_heads=2,
    mm_hidden_size=64,
)
MAX_FILE_BYTES = 100_000_000


@contextmanager
def peak_above() -> Iterator[Callable[[], float]]:
    """Watch this process; the function returned says its peak in MB above the beginning."""
    process, peak, stop = psutil.Process(), [0], threading.Event()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # freed memory that glibc keeps would hide what is new
    before = process.memory_info().rss

    def watch() -> None:
        while not stop.is_set():
            peak[0] = max(peak[0], process.memory_info().rss)
            time.sleep(0.002)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: (peak[0] - before) / 1e6
    finally:
        stop.set()
        thread.join()


def new_run(processes: Processes) -> tuple[PoolingModel, torch.optim.Optimizer, float]:
    """Return a model and an optimiser with moments, and the MB of all its shards."""
    torch.manual_seed(0)
    model = PoolingModel(CONFIG)
    num_bytes = sum(parameter.nbytes for parameter in model.parameters())
    ParallelModel(model, parallelism="fsdp2", precision="fp32", processes=processes)
    optimizer = new_optimizer(model, OptimizerConfig(learning_rate=1e-3, warmup_ratio=0))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer, num_bytes / 1e6


def write(way: str, folder: Path) -> None:
    """Write in one way; the first process says what it took."""
    config = grounding(init=folder, records=folder, media_root=folder, out=folder)
    with open_processes("fsdp2") as processes:
        model, optimizer, model_mb = new_run(processes)

        def save() -> None:
            save_state(
                config,
                model=model,
                optimizer=optimizer,
                progress=Progress(step=1),
                identity={},
                processes=processes,
            )

        if way == "file_by_file":
            save()
        with peak_above() as peak:
            if way == "shards":
                save()
            elif way == "gathered":
                options = StateDictOptions(full_state_dict=True, cpu_offload=True)
                whole = get_model_state_dict(model, options=options)
                moments = get_optimizer_state_dict(model, optimizer, options=options)
                if processes.is_first:
                    torch.save({"weights": whole, "moments": moments}, folder / "state.pt")
            elif processes.is_first:
                newest = newest_checkpoint(folder)
                assert newest is not None
                weights = SavedWeights(newest)
                shapes = {name: tensor.to("meta") for name, tensor in model.state_dict().items()}
                with patch.object(layout, "MAX_FILE_BYTES", MAX_FILE_BYTES):
                    layout.save_by_file(folder, shapes, weights.__getitem__)
            found = peak()
        if processes.is_first:
            result = {"model_mb": model_mb, "peak_mb_above": found}
            (folder / "result.json").write_text(json.dumps(result))


def launch(way: str) -> dict[str, float]:
    """Write in one way under torchrun."""
    with tempfile.TemporaryDirectory() as folder:
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        module = ["-m", "benchmarks.checkpoint_memory", "--way", way, "--folder", folder]
        command = [sys.executable, *torchrun, *module]
        subprocess.run(command, check=False)  # gloo sometimes aborts when an interpreter exits
        result: dict[str, float] = json.loads((Path(folder) / "result.json").read_text())
    return result


def main() -> None:
    """Measure every way, or be one of the processes that do."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        write(args.way, args.folder)
        return
    results = {"processes": 2, "max_file_mb": MAX_FILE_BYTES / 1e6}
    ways = {way: launch(way) for way in WAYS}
    write_report(args.out, "memory to write a checkpoint of shards", {**results, **ways})


if __name__ == "__main__":
    main()
