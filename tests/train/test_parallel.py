"""One process, several that share gradients, and several that share weights train one model."""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace

import pytest

from groundserve.families.videoitg.checkpoint import Checkpoint
from tests.support.reference import REPOSITORY
from tests.train.several_processes import (
    HELD,
    KILLED,
    KINDS,
    NUM_PASSES,
    STEP_LEFT,
    UNREADABLE,
    configs,
    copy_left,
    fake_data,
    killed_config,
    node_configs,
    write_videos,
)
from tests.unit.train import text_runs
from tests.unit.train.runs import (
    FakeData,
    assert_same_weights,
    losses,
    metrics,
    run,
)
from train.families.videoitg.family import open_initial
from train.validation import read_best

# float32, gradients summed in another order, with updates that are as smooth as the gradients (see
# `configs`): a weight of up to 2 is rounded in each of at most 8 steps, and so is what it is moved
# by; 16 roundings of 2 * 2**-24. A loss is the mean of some hundred terms: 16 roundings as well.
LOSS = 1e-6
WEIGHT = {"rtol": 0.0, "atol": 2e-6}


def launch(folder, names, *, num_nodes, finish=True):
    """Start nodes as a user does, with two processes each, and wait for the runs."""
    script = REPOSITORY / "tests" / "train" / "several_processes.py"
    meet = ["--standalone"]
    if num_nodes > 1:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        meet = ["--nnodes", str(num_nodes), "--rdzv-backend", "c10d"]
        meet += ["--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "test"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", *meet, "--nproc-per-node", "2"]
    nodes = []
    with ExitStack() as stack:
        for number in range(num_nodes):
            log = stack.enter_context((folder / f"node-{number}.log").open("w"))
            command = [*torchrun, str(script), str(folder), *names]
            environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
            nodes.append(
                stack.enter_context(
                    subprocess.Popen(
                        command, stdout=log, stderr=log, cwd=REPOSITORY, env=environment
                    )
                )
            )
        for node in nodes:
            node.wait(timeout=400)
    # Not the exit code: what counts is that every run wrote its result.
    missing = [name for name in names if (folder / name / "final").is_dir() != finish]
    assert not missing, "\n".join(path.read_text() for path in folder.glob("node-*.log"))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Finished runs of two processes, by name."""
    folder = tmp_path_factory.mktemp("two")
    write_videos(folder)
    return launch(folder, list(configs(folder)), num_nodes=1)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """Finished runs of two nodes of two processes, by name."""
    folder = tmp_path_factory.mktemp("nodes")
    return launch(folder, list(node_configs(folder)), num_nodes=2)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same runs in one process that accumulates what the two do in a step."""
    folder = tmp_path_factory.mktemp("one")
    for name, config in configs(folder).items():
        if not name.endswith(("_resumed", "_measured")):
            config = replace(
                config,
                out=folder / name,
                parallelism="none",
                accumulation_steps=NUM_PASSES,
                gradient_checkpointing=False,
            )
            run(config, data=fake_data(config))
    return folder


def assert_trained_as(out, expected_out):
    found, expected = metrics(out), metrics(expected_out)
    assert losses(found) == pytest.approx(losses(expected), rel=LOSS)
    assert_same_weights(out, expected_out, **WEIGHT)
    for line, wanted in zip(found, expected, strict=True):
        assert line["grad_norm"] == pytest.approx(wanted["grad_norm"], rel=1e-5)
        for key in ("step", "epoch", "learning_rates", "num_frames", "num_tokens"):
            assert line[key] == wanted[key]
        assert line["num_unreadable"] == wanted["num_unreadable"]


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "fsdp2_projector", *text_runs.STAGES])
def test_two_processes_train_as_one(folder, alone, name):
    assert_trained_as(folder / name, alone / name)


@pytest.fixture(scope="module")
def alone_as_nodes(tmp_path_factory):
    """One process that accumulates what two nodes do in a step."""
    config = replace(
        node_configs("unused")["hsdp"],
        out=tmp_path_factory.mktemp("one") / "run",
        parallelism="none",
        accumulation_steps=2 * NUM_PASSES,
        gradient_checkpointing=False,
    )
    run(config, data=FakeData(unreadable=UNREADABLE))
    return config.out


@pytest.mark.parametrize("name", ["hsdp", "hsdp_resumed"])
def test_nodes_that_share_gradients_train_as_one_process(nodes, alone_as_nodes, name):
    assert_trained_as(nodes / name, alone_as_nodes)


def test_a_resumed_run_of_shards_is_the_same_to_the_last_bit(nodes):
    assert metrics(nodes / "hsdp_resumed") == metrics(nodes / "hsdp")
    assert_same_weights(nodes / "hsdp_resumed", nodes / "hsdp")


def test_a_process_holds_its_shards_alone(folder):
    """Also of the gradients, and also between the passes of a step."""
    held = json.loads((folder / HELD).read_text())
    model = open_initial(configs(folder)["fsdp2"], num_auxiliary=0).model
    total = sum(parameter.numel() for parameter in model.parameters())
    for name, num_bytes in (
        ("weights", 4 * total),
        ("gradients between passes", 4 * total),
        ("gradients", 4 * total),
        ("moments", 8 * total),
    ):
        first, second = (one[name] for one in held)
        assert first + second == num_bytes, name
        assert first == pytest.approx(second, rel=0.01)  # rows are dealt whole


def test_a_process_that_dies_writing_leaves_the_checkpoint_before(tmp_path, alone):
    launch(tmp_path, [KILLED], num_nodes=1, finish=False)
    config = replace(
        killed_config(tmp_path)[KILLED],
        out=tmp_path / KILLED,
        parallelism="none",
        accumulation_steps=NUM_PASSES,
    )
    assert sorted(path.name for path in config.out.glob("*checkpoint-*")) == [
        ".checkpoint-4.partial",
        "checkpoint-2",
    ]
    found = run(config, data=FakeData(unreadable=UNREADABLE), resume=True)
    assert losses(found) == pytest.approx(losses(metrics(alone / "fsdp2")), rel=LOSS)
    assert sorted(path.name for path in config.out.glob("*checkpoint-*")) == [
        "checkpoint-2",
        "checkpoint-4",
    ]


def test_sharded_checkpoint_resumes_in_one_process(folder, alone, tmp_path):
    copy_left(folder / "fsdp2", tmp_path / "run")
    config = replace(
        configs(folder)["fsdp2"],
        out=tmp_path / "run",
        parallelism="none",
        accumulation_steps=NUM_PASSES,
    )
    assert len(metrics(config.out)) == 4
    steps = []
    found = run(
        config,
        data=FakeData(unreadable=UNREADABLE),
        resume=True,
        on_step=lambda report: steps.append(report.step),
    )
    assert steps == [STEP_LEFT + 1, STEP_LEFT + 2]
    assert losses(found) == pytest.approx(losses(metrics(folder / "fsdp2")), rel=LOSS)
    assert_same_weights(config.out, folder / "fsdp2", **WEIGHT)


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_measure_as_one(folder, kind, tmp_path):
    out = folder / f"{kind}_measured"
    lines = [line for line in metrics(out) if "validation" in line]
    assert [line["step"] for line in lines] == [0, 2, 4]
    config = configs(folder)[f"{kind}_measured"]
    expected = run(replace(config, out=tmp_path, parallelism="none", max_steps=1))[0]
    for name, figure in expected["validation"].items():  # of the same weights
        assert lines[0]["validation"][name] == pytest.approx(figure, rel=1e-12), name
    assert expected["validation"]["num_questions"] == 8
    assert expected["validation"]["num_left_out"] == 1  # its video is missing
    best = max(lines[1:], key=lambda line: line["validation"]["frame_ap"])
    assert read_best(out)["step"] == best["step"]
    Checkpoint.open(out / "best").load_grounding()


def test_sharded_checkpoint_resumes_with_whole_weights(folder):
    found, expected = metrics(folder / "ddp_resumed"), metrics(folder / "fsdp2")
    assert losses(found) == pytest.approx(losses(expected), rel=LOSS)
    assert_same_weights(folder / "ddp_resumed", folder / "fsdp2", **WEIGHT)
