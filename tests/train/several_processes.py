"""Runs that torchrun starts in several processes: python several_processes.py FOLDER NAME...

They speak through the files they write: gloo sometimes aborts when an interpreter exits.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

from torch.distributed.checkpoint import FileSystemWriter

from tests.unit.train import text_runs
from tests.unit.train.data.samples import question, write_video
from tests.unit.train.runs import FakeData, make_config, make_example, run_in
from train.config import OptimizerConfig, ValidationConfig
from train.families.videoitg.family import open_initial
from train.families.videoitg.models import encode_frames
from train.optimizer import new_optimizer
from train.parallel import ParallelModel, open_processes

UNREADABLE = (3, 5)  # passes of the second process only, one in two of its steps
NUM_PASSES = 4
"""Forward passes a step in all processes, on one node."""
HELD = "held.json"
"""What every process holds, by name."""
KINDS = ("ddp", "fsdp2")
"""What two processes may share."""
STEP_LEFT = 2
"""Checkpoint that `ddp_resumed` goes on from."""


def configs(folder):
    """Four steps each."""
    base = make_config(folder, max_steps=4, save_every_steps=2, accumulation_steps=NUM_PASSES // 2)
    # With AdamW's own epsilon a weight whose gradient is next to nothing moves by the whole rate,
    # in the direction of its rounding. This one is above all gradients, so that updates are smooth:
    # an update's error is at most rate / epsilon = 1 times the gradient's.
    base = replace(base, optimizer=replace(base.optimizer, max_grad_norm=0.5, eps=1e-2))
    # A quarter of eight items is more than a run loses by default.
    base = replace(base, data=replace(base.data, max_unreadable_share=1.0))
    sharded = replace(base, parallelism="fsdp2")
    return {
        "ddp": replace(base, parallelism="ddp", gradient_checkpointing=True),
        "fsdp2": replace(sharded, gradient_checkpointing=True),
        "fsdp2_projector": replace(sharded, stage="projector", auxiliary_weight=0.0),
        **{stage: text_config(base, stage) for stage in text_runs.STAGES},
        "ddp_resumed": replace(base, parallelism="ddp"),
        **{
            f"{kind}_measured": measured(
                replace(base, parallelism=kind, gradient_checkpointing=True)
            )
            for kind in KINDS
        },
    }


def text_config(base, stage):
    """The same steps of a stage of another family."""
    names = ("max_steps", "save_every_steps", "accumulation_steps")
    return replace(
        text_runs.make_config(stage, base.out),
        **{name: getattr(base, name) for name in names},
        optimizer=replace(base.optimizer, out_proj_learning_rate=None),
        parallelism="fsdp2",
        gradient_checkpointing=True,
    )


def fake_data(config):
    """What a run of VideoITG reads; others have records."""
    return (
        FakeData(unreadable=UNREADABLE)
        if config.is_grounding or config.stage == "projector"
        else None
    )


KILLED = "killed"


def killed_config(folder):
    """A run whose second process dies when it writes its second checkpoint."""
    return {KILLED: configs(folder)["fsdp2"]}


def node_configs(folder):
    """Four steps each, on two nodes of two processes."""
    sharded = configs(folder)["fsdp2"]
    hybrid = replace(sharded, parallelism="hsdp")
    return {"hsdp": hybrid, "hsdp_resumed": hybrid}


def measured(config):
    """The same with validation on the videos, of which one process has one more than the other."""
    videos = config.out / "videos"
    validation = ValidationConfig(
        records=videos / "records.json", media_root=videos, every_steps=STEP_LEFT
    )
    return replace(config, validation=validation)


def write_videos(folder):
    """Nine questions, of 2 to 6 seconds; one video is missing."""
    videos = Path(folder) / "videos"
    videos.mkdir()
    records = []
    for i in range(9):
        seconds = 2 + i % 5
        if i != 4:
            write_video(videos / f"{i}.mp4", num_frames=10 * seconds)
        records.append(question(f"{i}.mp4", "what is it?", frame_num=[i % 2], duration=seconds))
    (videos / "records.json").write_text(json.dumps(records))


def leave_at(folder, step):
    """Make a finished run look as if it had stopped a little after a checkpoint."""
    shutil.rmtree(folder / "final")
    for checkpoint in folder.glob("checkpoint-*"):
        if checkpoint.name != f"checkpoint-{step}":
            shutil.rmtree(checkpoint)


def copy_left(source, out):
    shutil.copytree(source, out)
    leave_at(out, STEP_LEFT)


def measure(folder, processes):
    """Write what every process holds of a model that is sharded, in bytes."""
    config = configs(folder)["fsdp2"]
    initial = open_initial(config, num_auxiliary=0)
    model = ParallelModel(initial, config, processes)
    optimizer = new_optimizer(initial.model, OptimizerConfig(learning_rate=1e-3, warmup_ratio=0))
    parameters = list(initial.model.parameters())
    examples = [make_example(processes.rank)]
    features = encode_frames(initial.vision, examples)
    held = {"weights": local_bytes(parameters)}
    for name, is_last in (("gradients between passes", False), ("gradients", True)):
        with model.gradients(average=is_last):
            model(examples, features).loss.backward()
        held[name] = local_bytes([p.grad for p in parameters])
    optimizer.step()
    moments = [optimizer.state[p][name] for p in parameters for name in ("exp_avg", "exp_avg_sq")]
    held["moments"] = local_bytes(moments)
    everyone = processes.gather(held)
    if processes.is_first:
        (Path(folder) / HELD).write_text(json.dumps(everyone))


def local_bytes(tensors):
    return sum(tensor.to_local().nbytes for tensor in tensors if tensor is not None)


def die_writing_the_second(processes):
    """Let the second process die as by `kill -9` when its shards of a second checkpoint lie."""
    write_data, calls = FileSystemWriter.write_data, []

    def write(self, *args):
        calls.append(self)
        future = write_data(self, *args)
        if len(calls) == 2 and processes.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return future

    FileSystemWriter.write_data = write


def main(folder, *names):
    logging.basicConfig(level=logging.WARNING)
    with open_processes("ddp") as processes:  # gloo can be opened once
        measure(folder, processes)
        for name in names:
            out = Path(folder) / name
            known = configs(folder) | node_configs(folder) | killed_config(folder)
            config = replace(known[name], out=out)
            if resume := name.endswith("_resumed"):
                left = "hsdp" if name == "hsdp_resumed" else "fsdp2"
                processes.on_first(lambda out=out, left=left: copy_left(out.parent / left, out))
            if name == KILLED:
                die_writing_the_second(processes)
            run_in(processes, config, data=fake_data(config), resume=resume)


if __name__ == "__main__":
    main(*sys.argv[1:])
