"""Whole runs of a tiny model."""

import logging
from dataclasses import replace

import pytest
import torch
import torch.distributed.checkpoint as dcp

from groundserve.errors import InvalidRequestError
from tests.unit.train import text_runs
from tests.unit.train.runs import (
    NUM_ITEMS,
    FakeData,
    assert_same_weights,
    losses,
    make_config,
    make_example,
    metrics,
    run,
    weights,
)
from train.families.videoitg.family import open_initial
from train.families.videoitg.models import encode_frames
from train.logs import read_metrics
from train.state import SavedWeights


class StoppedError(Exception):
    """Power failure."""


def stop_after(last):
    def stop(report):
        if report.step == last:
            raise StoppedError

    return stop


def config_of(stage, out):
    return make_config(out) if stage == "grounding" else text_runs.make_config(stage, out)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    run(make_config(out))
    return out


@pytest.fixture(scope="module", params=["grounding", *text_runs.STAGES])
def whole_of(tmp_path_factory, request, whole):
    """The same of other families too: what was trained, and the run's folder."""
    if request.param == "grounding":
        return request.param, whole
    config = config_of(request.param, tmp_path_factory.mktemp("whole") / "run")
    run(config)
    return request.param, config.out


@pytest.mark.parametrize("last", [3, 5])
def test_resumed_run_equals_an_uninterrupted_one(tmp_path, whole_of, last):
    stage, whole_out = whole_of
    config = config_of(stage, tmp_path / "run")
    with pytest.raises(StoppedError):
        run(config, on_step=stop_after(last))
    steps = []
    found = run(config, resume=True, on_step=lambda report: steps.append(report.step))
    # It was stopped before it could write its checkpoint of step 3.
    assert steps == ([1, 2, 3] if last == 3 else []) + [4, 5, 6]
    assert found == metrics(whole_out)  # to the last bit
    assert_same_weights(config.out, whole_out)


def test_losses_are_those_of_the_model(tmp_path):
    """The first rate is 0, so two steps see the initial weights."""
    config = make_config(tmp_path / "run", accumulation_steps=2)
    initial = open_initial(config, num_auxiliary=3)
    expected = []
    for item in range(4):
        examples = [make_example(item)]
        with torch.no_grad():
            expected.append(initial.model(examples, encode_frames(initial.vision, examples)))
    found = run(config)[:2]
    for step, line in enumerate(found):
        pair = expected[2 * step : 2 * step + 2]
        loss = sum(float(losses.loss) for losses in pair) / 2
        assert line["loss"] == pytest.approx(loss, rel=1e-6)
        for name in ("grounding", "auxiliary"):
            part = sum(float(losses.parts[name]) for losses in pair) / 2
            assert line["parts"][name] == pytest.approx(part, rel=1e-6)


def test_gradient_is_the_mean_over_the_passes(tmp_path):
    config = make_config(tmp_path / "run", accumulation_steps=2, max_steps=1)
    initial = open_initial(config, num_auxiliary=3)
    for item in (0, 1):
        examples = [make_example(item)]
        losses = initial.model(examples, encode_frames(initial.vision, examples))
        (losses.loss / 2).backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in initial.model.parameters()])
    assert run(config)[0]["grad_norm"] == pytest.approx(float(norm), rel=1e-6)


def test_last_step_has_the_passes_that_are_left(tmp_path):
    config = make_config(tmp_path / "run", max_steps=None, accumulation_steps=3)
    assert NUM_ITEMS == 8
    found = run(config)
    assert [line["epoch"] for line in found] == [3 / 8, 6 / 8, 1]
    frames = [sum(len(make_example(i).frames) for i in items) for items in ((0, 1, 2), (6, 7))]
    assert [found[0]["num_frames"], found[2]["num_frames"]] == frames


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"stage": "projector", "auxiliary_weight": 0.0}, id="projector"),
        pytest.param({"stage": "video"}, id="video_with_auxiliary"),
        pytest.param({"precision": "bf16", "gradient_checkpointing": True}, id="bf16_checkpointed"),
        pytest.param({"optimizer": {"max_grad_norm": 0.5}}, id="clipping"),
    ],
)
def test_every_kind_of_run_learns(tmp_path, changes):
    config = make_config(tmp_path / "run", max_steps=12, save_every_steps=100, **changes)
    found = losses(run(config, data=OneItem()))
    assert found[-1] < 0.97 * found[0]


class OneItem(FakeData):
    """The same item in every pass."""

    def batches(self, *, first, last, **arguments):
        for _ in range(first, last):
            yield from super().batches(first=0, last=1, **arguments)


def test_bf16_keeps_float32_weights(tmp_path, whole):
    config = make_config(tmp_path / "run", precision="bf16")
    found = losses(run(config))
    expected = losses(metrics(whole))
    assert found != expected
    assert found == pytest.approx(expected, rel=0.05)
    reader = dcp.FileSystemReader(config.out / "checkpoint-6/trainer_state")
    saved = reader.read_metadata().state_dict_metadata.values()
    kinds = {entry.properties.dtype for entry in saved}
    assert kinds == {tensor.dtype for tensor in weights(config.out).values()} == {torch.float32}


def test_recomputed_activations_give_the_same_run(tmp_path, whole):
    config = make_config(tmp_path / "run", gradient_checkpointing=True)
    assert run(config) == metrics(whole)
    assert_same_weights(config.out, whole)


def test_unreadable_records_are_counted_and_named_once(tmp_path, caplog):
    config = make_config(tmp_path / "run", max_steps=2 * NUM_ITEMS, save_every_steps=5)
    config = replace(config, data=replace(config.data, max_unreadable_share=1.0))
    with caplog.at_level(logging.WARNING):
        found = run(config, data=FakeData(unreadable={1, 6}))
    warnings = [r.message for r in caplog.records if r.name == "train.unreadable"]
    assert warnings == ["cannot read 1.mp4: it is broken", "cannot read 6.mp4: it is broken"]
    counts = [0, 1, 1, 1, 1, 1, 2, 2]
    assert [line["num_unreadable"] for line in found] == counts + [2] * NUM_ITEMS
    lost = [line for line in found if line["loss"] is None]
    assert [line["step"] for line in lost] == [2, 7, 10, 15]
    for line in lost:
        assert line["parts"] == {}
        assert line["num_frames"] == line["grad_norm"] == 0


def test_the_gradient_is_the_mean_over_the_passes_that_were_read(tmp_path):
    """Three passes of which one is unreadable train as the two others by themselves."""
    lost = make_config(tmp_path / "lost", accumulation_steps=3, max_steps=1)
    (line,) = run(lost, data=FakeData(unreadable={2}))
    read = make_config(tmp_path / "read", accumulation_steps=2, max_steps=1)
    (expected,) = run(read)
    assert line["num_frames"] == expected["num_frames"]
    assert line["loss"] == expected["loss"]
    # A third of the sum times 3 / 2, or half of it: a few roundings of 6e-8.
    assert line["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-6)


def test_a_step_that_reads_nothing_moves_nothing(tmp_path):
    """Not even by what AdamW remembers of the steps before."""
    config = make_config(tmp_path / "run", max_steps=4, save_every_steps=1, keep_last=4)
    found = run(config, data=FakeData(unreadable={3}))
    seen = [dict(SavedWeights(config.out / f"checkpoint-{step}")) for step in (1, 2, 3, 4)]
    lost = [line for line in found if line.get("loss", 0) is None]
    assert [(line["step"], line["grad_norm"]) for line in lost] == [(4, 0)]
    _, _, before, after = seen
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not any(torch.equal(seen[1][name], before[name]) for name in before)


@pytest.mark.parametrize("stage", ["grounding", "video"])
def test_nothing_readable_ends_the_run(tmp_path, stage):
    config = make_config(tmp_path / "run", stage=stage, max_steps=100)
    message = r"none of the last 8 items could be read, at last 7\.mp4: it is broken; check"
    with pytest.raises(InvalidRequestError, match=message):
        run(config, data=FakeData(unreadable=range(NUM_ITEMS)))
    assert len(read_metrics(config.out)) == NUM_ITEMS - 1


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path):
    config = make_config(tmp_path / "run", optimizer={"learning_rate": 1e30})
    message = r"must be finite, step 3 has loss = nan, .*grad_norm = nan; the weights were left"
    with pytest.raises(InvalidRequestError, match=message):
        run(config)
    assert [line["step"] for line in read_metrics(config.out)] == [1, 2]
