"""A run that is killed while it writes a checkpoint."""

import subprocess
import sys

from tests.support.reference import REPOSITORY
from tests.unit.train.runs import checkpoints, losses, make_config, run
from train.state import newest_checkpoint

KILLED = """
import os, sys
import torch.distributed.checkpoint as dcp
from tests.unit.train.runs import make_config, run

write_data, calls = dcp.FileSystemWriter.write_data, []

def die_second(self, *args):
    calls.append(self)
    future = write_data(self, *args)
    if len(calls) == 2:  # the tensors are there, what lies where is not
        os.kill(os.getpid(), 9)
    return future

dcp.FileSystemWriter.write_data = die_second
run(make_config(sys.argv[1], save_every_steps=2))
"""


def test_a_killed_process_leaves_the_checkpoint_before(tmp_path):
    """As `kill -9` in the middle of writing the second checkpoint's tensors."""
    config = make_config(tmp_path / "run", save_every_steps=2)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, config.out],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=REPOSITORY,
    )
    assert killed.returncode == -9, killed.stderr
    assert checkpoints(config.out) == [".checkpoint-4.partial", "checkpoint-2"]
    assert newest_checkpoint(config.out).name == "checkpoint-2"
    steps = []
    found = run(config, resume=True, on_step=lambda report: steps.append(report.step))
    assert steps == [3, 4, 5, 6]
    assert len(losses(found)) == 6
    assert checkpoints(config.out) == ["checkpoint-4", "checkpoint-6"]
