"""Metrics and TensorBoard files."""

import json
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from train.logs import RunLog, StepReport, read_metrics


def make_report(step, loss=0.5):
    return StepReport(
        step=step,
        num_steps=9,
        epoch=step / 9,
        loss=loss,
        parts={} if loss is None else {"grounding": loss},
        learning_rates={"base": 1e-5, "out_proj": 1e-4},
        grad_norm=2.0,
        num_frames=8,
        num_tokens=90,
        data_seconds=(0.25, 0.5),
        compute_seconds=1.5,
        num_unreadable=1,
    )


def test_a_step_is_a_line(tmp_path):
    with RunLog(tmp_path, step=0) as log:
        log.step(make_report(1))
        log.validation(1, {"accuracy": 0.75})
        log.flush()
    step, validation = read_metrics(tmp_path)
    assert step == {
        "step": 1,
        "epoch": 1 / 9,
        "loss": 0.5,
        "parts": {"grounding": 0.5},
        "learning_rates": {"base": 1e-5, "out_proj": 1e-4},
        "grad_norm": 2.0,
        "num_frames": 8,
        "num_tokens": 90,
        "data_seconds": [0.25, 0.5],
        "compute_seconds": 1.5,
        "num_unreadable": 1,
    }
    assert validation == {"step": 1, "validation": {"accuracy": 0.75}}


def test_lines_past_the_resumed_step_are_dropped(tmp_path):
    with RunLog(tmp_path, step=0) as log:
        for step in (1, 2, 3):
            log.step(make_report(step))
            log.validation(step, {"accuracy": step / 10})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # killed while writing
    with RunLog(tmp_path, step=2) as log:
        log.step(make_report(3, loss=0.25))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 1, 2, 2, 3]
    assert lines[-1]["loss"] == 0.25


def test_tensorboard_has_the_same_numbers(tmp_path):
    with RunLog(tmp_path, step=0) as log:
        log.step(make_report(1))
        log.step(make_report(2, loss=0.75))
        log.validation(2, {"accuracy": 0.5})
    # TensorBoard reads files in the order of their names, which tell the second they were made in.
    time.sleep(1.1)
    with RunLog(tmp_path, step=1) as log:  # a run that was resumed behind step 1
        log.step(make_report(2, loss=0.25))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    scalars = {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }
    assert scalars["train/loss"] == scalars["train/grounding"] == [(1, 0.5), (2, 0.25)]
    assert scalars["train/learning_rate/out_proj"] == [(s, pytest.approx(1e-4)) for s in (1, 2)]
    assert scalars["train/seconds/data"] == [(1, 0.5), (2, 0.5)]
    assert "validation/accuracy" not in scalars or not scalars["validation/accuracy"]
