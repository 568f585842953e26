"""Real signals to real processes: what SIGTERM leaves behind, and what resumes from it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoSource
from groundserve.runtime.deadline import Deadline
from tests.support.reference import REPOSITORY
from tests.unit.train.data.samples import write_video
from tests.unit.train.runs import (
    assert_same_weights,
    metrics,
)

TIMEOUT = 300.0

# Arguments: out, parallelism, seconds a step, words.
CHILD = """
import sys
from dataclasses import replace
from tests.unit.train.runs import FakeData, make_config, run
from train.stop import EXIT_STOPPED, RunStoppedError

config = make_config(sys.argv[1], max_steps=40, save_every_steps=100)
try:
    config = replace(config, parallelism=sys.argv[2])
    run(config, data=FakeData(wait=float(sys.argv[3])), resume="resume" in sys.argv)
except RunStoppedError as error:
    print(error.checkpoint, flush=True)
    sys.exit(EXIT_STOPPED)
"""


def start(out, *words, parallelism="none", step_seconds=0.25, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(out), parallelism, str(step_seconds), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
    )


def wait_for_steps(out, process, *, num_steps=2):
    path, end = out / "metrics.jsonl", time.monotonic() + TIMEOUT
    while not path.is_file() or path.read_text().count("\n") < num_steps:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "no step was done"
        time.sleep(0.02)


def assert_stopped_well(out, said):
    """The last step that the log names is the checkpoint's, and is not the run's last."""
    (checkpoint,) = out.glob("checkpoint-*")
    step = metrics(out)[-1]["step"]
    assert checkpoint.name == f"checkpoint-{step}"
    assert 2 <= step < 40
    progress = json.loads((checkpoint / "trainer_state" / "progress.json").read_text())
    assert progress["step"] == step
    assert said.splitlines()[-1] == str(checkpoint)
    assert not (out / "final").exists()


def start_two(out, *words, **options):
    """Two ranks of one run, as torchrun would start them."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = str(held.getsockname()[1])
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [start(out, *words, parallelism="ddp", RANK=str(r), **group, **options) for r in (0, 1)]


@pytest.fixture(scope="module")
def whole_of_two(tmp_path_factory):
    """The run of two ranks that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole_of_two") / "run"
    finish(start_two(out, step_seconds=0), out)
    return out


def finish(ranks, out):
    said = [rank.communicate(timeout=TIMEOUT) for rank in ranks]
    # Not the exit codes: gloo sometimes aborts when an interpreter exits.
    assert (out / "final").is_dir(), said


def test_one_signalled_rank_stops_all_at_one_step(tmp_path, whole_of_two):
    out = tmp_path / "run"
    ranks = start_two(out)
    wait_for_steps(out, ranks[0])
    ranks[1].send_signal(signal.SIGTERM)
    said = [rank.communicate(timeout=TIMEOUT) for rank in ranks]
    assert_stopped_well(out, said[0][0])
    assert said[1][0].splitlines()[-1] == said[0][0].splitlines()[-1]
    assert [("got SIGTERM" in errors) for _, errors in said] == [False, True]

    finish(start_two(out, "resume", step_seconds=0), out)
    assert metrics(out) == metrics(whole_of_two)  # to the last bit
    assert_same_weights(out, whole_of_two)


def test_decoders_outlive_sigterm(tmp_path):
    """Slurm signals them too, and the step that is under way still needs its videos."""
    write_video(tmp_path / "a.mp4", num_frames=5)
    limits, deadline = Limits(), Deadline.after(60)
    with (
        MediaWorkers(limits=limits) as workers,
        VideoSource.from_path(tmp_path / "a.mp4", limits=limits) as source,
        workers.open(source, deadline=deadline) as video,
    ):
        os.kill(workers.pids()[0], signal.SIGTERM)
        assert video.index.num_source_frames == 5
        assert video.decode(video.cut(np.arange(5)), image_size=8).shape == (5, 8, 8, 3)
