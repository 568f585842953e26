"""One process, two that share gradients, and two that share weights train the same model."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from groundserve.errors import InvalidRequestError
from tests.reference import REPOSITORY
from tests.unit.train.runs import (
    NUM_AUXILIARY,
    FakeData,
    assert_same_weights,
    losses,
    make_config,
    make_example,
    metrics,
    run,
)
from tests.unit.train.two_processes import (
    NUM_PASSES,
    STEP_LEFT,
    UNREADABLE,
    configs,
    copy_left,
)
from train.layout import open_initial
from train.models import encode_frames
from train.parallel import checkpoint_activations, open_processes

# float32, sums in another order: measured 4e-8 on losses and 5e-6 on weights, which AdamW moves by
# up to its rate of 1e-2 whatever the gradient's size.
LOSS = 1e-6
WEIGHT = {"rtol": 0.0, "atol": 5e-5}
# bfloat16 keeps 8 bits; FSDP2 rounds weights, autocast the operands of matrix products alone:
# measured 3e-3.
BF16_LOSS = 2e-2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Finished runs of two processes, by name."""
    folder = tmp_path_factory.mktemp("two")
    names = list(configs(folder))
    script = REPOSITORY / "tests" / "unit" / "train" / "two_processes.py"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    finished = subprocess.run(
        [sys.executable, *launch, str(script), str(folder), *names],
        capture_output=True,
        text=True,
        timeout=400,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    # Not the exit code: what counts is that every run wrote its result.
    missing = [name for name in names if not (folder / name / "final").is_dir()]
    assert not missing, f"{missing}\n{finished.stderr}"
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same runs in one process that accumulates what the two do in a step."""
    folder = tmp_path_factory.mktemp("one")
    for name, config in configs(folder).items():
        if name != "ddp_resumed":
            config = replace(
                config,
                out=folder / name,
                parallelism="none",
                accumulation_steps=NUM_PASSES,
                gradient_checkpointing=False,
            )
            run(config, data=FakeData(unreadable=UNREADABLE))
    return folder


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "fsdp2_projector"])
def test_two_processes_train_as_one(folder, alone, name):
    found, expected = metrics(folder / name), metrics(alone / name)
    assert losses(found) == pytest.approx(losses(expected), rel=LOSS)
    assert_same_weights(folder / name, alone / name, **WEIGHT)
    for line, wanted in zip(found, expected, strict=True):
        assert line["grad_norm"] == pytest.approx(wanted["grad_norm"], rel=1e-5)
        for key in ("step", "epoch", "learning_rates", "num_frames", "num_tokens"):
            assert line[key] == wanted[key]
        assert line["num_unreadable"] == wanted["num_unreadable"]


def test_bf16_shards_train_like_autocast(folder, alone):
    found, expected = metrics(folder / "fsdp2_bf16"), metrics(alone / "fsdp2_bf16")
    assert losses(found) == pytest.approx(losses(expected), rel=BF16_LOSS)
    assert losses(found) != pytest.approx(losses(metrics(alone / "fsdp2")), rel=LOSS)


def test_first_process_reports_what_others_could_not_read(folder):
    lines = metrics(folder / "fsdp2")
    assert [line["num_unreadable"] for line in lines] == [1, 2, 2, 2]


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


def test_sharded_checkpoint_resumes_with_whole_weights(folder):
    found, expected = metrics(folder / "ddp_resumed"), metrics(folder / "fsdp2")
    assert losses(found) == pytest.approx(losses(expected), rel=LOSS)
    assert_same_weights(folder / "ddp_resumed", folder / "fsdp2", **WEIGHT)


def test_state_of_shards_is_whole(folder):
    state = folder / "fsdp2" / "checkpoint-4" / "trainer_state"
    assert json.loads((state / "progress.json").read_text())["step"] == 4
    moments = torch.load(state / "state.pt", weights_only=True)["optimizer"]["state"]
    assert moments["decoder.layers.1.mlp.up_proj.weight"]["exp_avg"].shape == (128, 64)
    assert moments["head.weight"]["exp_avg"].shape == (1, 64)


@pytest.mark.parametrize(
    ("parallelism", "world_size", "message"),
    [
        ("none", "2", 'parallelism "none" is for one process, WORLD_SIZE is 2; set'),
        ("ddp", None, 'parallelism "ddp" needs torchrun, which sets WORLD_SIZE; start it with'),
        ("fsdp2", None, 'parallelism "fsdp2" needs torchrun'),
    ],
)
def test_config_and_launcher_must_agree(monkeypatch, parallelism, world_size, message):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if world_size is not None:
        monkeypatch.setenv("WORLD_SIZE", world_size)
    with pytest.raises(InvalidRequestError, match=message), open_processes(parallelism):
        pass


def test_one_process_needs_no_others():
    with open_processes("none") as processes:
        assert processes.is_first
        assert processes.gather("x") == ["x"]
        assert processes.on_first(lambda: 3) == 3
        assert processes.total(torch.ones(2)).tolist() == [1, 1]


@pytest.mark.parametrize("stage", ["grounding", "projector", "video"])
def test_checkpointed_activations_give_the_same_gradients(tmp_path, stage):
    gradients = []
    for enabled in (False, True):
        auxiliary = NUM_AUXILIARY if stage == "grounding" else 0
        config = make_config(tmp_path, stage=stage, auxiliary_weight=float(auxiliary > 0))
        initial = open_initial(config, num_auxiliary=auxiliary)
        calls = 0

        def count(*_):
            nonlocal calls
            calls += 1

        if enabled:
            checkpoint_activations(initial.model)
        initial.model.decoder.layers[0].mlp.register_forward_pre_hook(count)
        examples = [make_example(0), make_example(1)]
        initial.model(examples, encode_frames(initial.vision, examples)).loss.backward()
        assert calls == (2 if enabled else 1)
        gradients.append({n: p.grad for n, p in initial.model.named_parameters()})
    plain, recomputed = gradients
    trained = [name for name, gradient in plain.items() if gradient is not None]
    assert len(trained) == {"projector": 4}.get(stage, len(plain))
    for name in trained:
        torch.testing.assert_close(recomputed[name], plain[name], rtol=0, atol=0, msg=name)
