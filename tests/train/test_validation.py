"""Frame AP during a run, and the best checkpoint by it."""

import json
import shutil
import signal
from dataclasses import replace

import pytest
import torch

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.grounding_records import read_grounding_records
from groundserve.evaluation.report import make_report
from groundserve.evaluation.scored_records import score_records
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.scoring.opener import open_scorer
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from tests.unit.train.data.samples import question, write_video
from tests.unit.train.runs import assert_same_weights, make_config, metrics, run
from train.config import ValidationConfig
from train.digits.dataset import write_grounding_set
from train.families.videoitg.models import PoolingModel
from train.loop import train
from train.stop import RunStoppedError
from train.validation import open_best, read_best


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Five questions; one is absent, one names a frame that its video has not."""
    folder = tmp_path_factory.mktemp("validation")
    write_video(folder / "a.mp4", num_frames=60)
    write_video(folder / "b.mp4", num_frames=40)
    values = [
        question("a.mp4", "what?", frame_num=[1, 4], type="semantic"),
        question("a.mp4", "who?", frame_num=[], type="semantic"),
        question("a.mp4", "is it?", frame_num=[0], type="motion"),
        question("b.mp4", "what?", frame_num=[9], type="motion"),
        question("b.mp4", "is it?", frame_num=[3], type="motion"),
    ]
    (folder / "records.json").write_text(json.dumps(values))
    return folder / "records.json"


def watched(out, records, *, every_steps=2, **changes):
    validation = ValidationConfig(
        records=records, media_root=records.parent, every_steps=every_steps
    )
    return make_config(out, validation=validation, **changes)


def measured(out):
    return [line for line in metrics(out) if "validation" in line]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, records):
    """A run of six steps that was measured, and what it told."""
    out, told = tmp_path_factory.mktemp("whole") / "run", []
    run(watched(out, records), on_validation=lambda *each: told.append(each))
    return out, told


def test_a_run_is_measured_before_it_begins_at_every_mark_and_at_its_end(whole):
    out, told = whole
    assert [line["step"] for line in measured(out)] == [0, 2, 4, 6]
    assert [step for step, _, _ in told] == [0, 2, 4, 6]
    for line in measured(out):
        figures = line["validation"]
        assert (figures["num_questions"], figures["num_left_out"]) == (3, 1)
        semantic, motion = figures["frame_ap/semantic"], figures["frame_ap/motion"]
        assert figures["frame_ap"] == pytest.approx((semantic + 2 * motion) / 3)


def test_validation_changes_nothing_of_the_training(whole, tmp_path):
    out, _ = whole
    run(make_config(tmp_path / "run"))
    assert_same_weights(out, tmp_path / "run")  # to the last bit
    assert [line for line in metrics(out) if "loss" in line] == metrics(tmp_path / "run")


def test_best_is_the_earliest_of_the_highest_and_opens_as_a_checkpoint(whole):
    out, told = whole
    trained = [line for line in measured(out) if line["step"]]
    expected = max(trained, key=lambda line: line["validation"]["frame_ap"])  # the first of equals
    state = read_best(out)
    assert state["step"] == expected["step"]
    assert state["frame_ap"] == expected["validation"]["frame_ap"]
    assert [step for step, _, is_best in told if is_best][-1] == state["step"]
    Checkpoint.open(out / "best").load_grounding()


def test_resumed_run_keeps_the_best_and_the_log(whole, tmp_path, records):
    """SIGTERM comes amid the measurement after step 4, before its first question."""
    out, _ = whole
    config = watched(tmp_path / "run", records)

    def ask(report):
        if report.step == 4:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(RunStoppedError, match=r"wrote .*checkpoint-4, go on with --resume"):
        run(config, on_step=ask)
    assert [line["step"] for line in measured(config.out)] == [0, 2]
    run(config, resume=True)
    assert metrics(config.out) == metrics(out)
    assert read_best(config.out) == read_best(out)
    assert_same_weights(config.out, out)


def test_scores_that_are_not_numbers_make_no_best(tmp_path, records, monkeypatch):
    def lose(self, *args):
        losses = forward(self, *args)
        for logits in () if self.training else losses.frame_logits:
            logits.fill_(torch.nan)
        return losses

    forward = PoolingModel.forward
    monkeypatch.setattr(PoolingModel, "forward", lose)
    with pytest.raises(InvalidRequestError, match="of 3 of 3 questions to validate on some are"):
        run(watched(tmp_path / "run", records, max_steps=1))


@pytest.mark.parametrize("left", [".best.replaced", "best"])
def test_a_run_clears_up_after_one_that_was_killed_amid_its_best(whole, records, tmp_path, left):
    """Between its two renames, or after them: then one is there that it replaced."""
    step = read_best(whole[0])["step"]
    shutil.copytree(whole[0] / "best", tmp_path / left)
    for name in (".best.partial", ".best.replaced"):
        (tmp_path / name).mkdir(exist_ok=True)
    open_best(tmp_path, records)
    assert read_best(tmp_path)["step"] == step
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_the_figure_is_that_of_eval(tmp_path):
    """`digits` before the first step, in the arithmetic of `eval`: float32."""
    path = write_grounding_set(tmp_path, split="test", seed=5, num_videos=3, num_frames=12)
    config = watched(tmp_path / "run", path, init=SHIPPED_CHECKPOINT, max_steps=1)
    data = replace(
        config.data,
        records=path,
        media_root=path.parent,
        vision_token_num=432,
        vision_min_num=3,
        max_frames=64,
    )
    told = []
    train(
        replace(config, data=data, auxiliary_weight=0.0),
        on_validation=lambda step, figures, _: told.append(figures),
    )
    with open_scorer(str(SHIPPED_CHECKPOINT), None, None) as scorer:
        scored = score_records(scorer, read_grounding_records(path), media_root=path.parent, seed=0)
    report = make_report(list(scored.questions.values()), top_k=8)
    # Two implementations of one model differ by roundings of 1e-6; what is ranked is further apart.
    assert told[0]["frame_ap"] == pytest.approx(report.overall.figures["frame_ap"].value, abs=1e-9)
    assert told[0]["num_questions"] == report.overall.num_present
    for kind, group in report.by_type.items():
        expected = group.figures["frame_ap"].value
        assert told[0][f"frame_ap/{kind}"] == pytest.approx(expected, abs=1e-9)
