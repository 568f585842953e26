"""`groundserve eval --baseline`: two models on the same questions, in this process."""

from __future__ import annotations

import json
import shutil
from functools import partial

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from groundserve.cli import eval_run
from groundserve.results import build_score_result
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from tests.cli.command import run_cli
from tests.cli.steps import assert_one_error, read_steps
from tests.results import make_info

CHECKPOINT = str(SHIPPED_CHECKPOINT)
NUM_VIDEOS, NUM_FRAMES = 6, 8


@pytest.fixture
def run():
    """The command; gives its exit code and what it wrote."""
    return partial(run_cli, "eval")


@pytest.fixture
def records(tmp_path):
    """Options that name two questions about each video, one of them about what is not there."""
    values = []
    for number in range(NUM_VIDEOS):
        name = f"{number}.mp4"
        (tmp_path / name).touch()
        for kind, frame_num in (("semantic", [number, number + 1]), ("absent", [])):
            values.append(
                {
                    "video": name,
                    "question": f"<image>\n{kind} {frame_num}",
                    "frame_num": frame_num,
                    "type": kind,
                }
            )
    path = tmp_path / "records.json"
    path.write_text(json.dumps(values), "utf-8")
    return ("--records", path, "--media-root", tmp_path)


class FakeModel:
    """Finds the frames that a question names, or with `is_wrong` all others; counts what it does.

    One that `sees` fewer frames gives fewer.
    """

    open_now = 0

    def __init__(self, *, is_wrong=False, sees=NUM_FRAMES):
        self.is_wrong = is_wrong
        self.sees = sees
        self.scored = []

    def __enter__(self):
        assert FakeModel.open_now == 0, "both models are in memory"
        FakeModel.open_now += 1
        return self

    def __exit__(self, *error):
        FakeModel.open_now -= 1

    def score(self, video, queries, options):
        self.scored.append(video.name)
        places = np.arange(self.sees)
        frame_logits = np.zeros((len(queries), self.sees), np.float32)
        for row, query in zip(frame_logits, queries, strict=True):
            named = json.loads(query.partition(" ")[2])
            row[:] = -4 + 0.1 * places
            row[[place for place in named if place < self.sees]] += 8
            row *= -1 if self.is_wrong else 1
        pts_seconds = places.astype(np.float64)
        return build_score_result(
            queries,
            video=str(video),
            info=make_info(
                num_source_frames=self.sees,
                duration_seconds=float(self.sees),
                engine={"is_wrong": self.is_wrong},
            ),
            frame_indices=places,
            pts_seconds=pts_seconds,
            frame_logits=frame_logits,
            frame_scores=frame_logits,
            selected_frames=places[None].repeat(len(queries), 0),
            span_threshold=0.5,
            span_gap_seconds=0.0,
        )


@pytest.fixture
def new(tmp_path):
    """A checkpoint by another name than the shipped one."""
    (tmp_path / "new").symlink_to(SHIPPED_CHECKPOINT)
    return str(tmp_path / "new")


@pytest.fixture
def models(monkeypatch, new):
    """Fakes by the name of the checkpoint; both can be looked at before they are opened."""
    known = {new: FakeModel(), CHECKPOINT: FakeModel(is_wrong=True)}
    monkeypatch.setattr(eval_run, "open_scorer", lambda checkpoint, *_: known[checkpoint])
    return known


def test_the_json_says_of_every_figure_which_is_better(run, records, models, new):
    code, out, err = run(
        *(*records, "--checkpoint", new, "--baseline", CHECKPOINT),
        *("--top-k", 2, "--seed", 5, "--json"),
    )
    assert code == 0, err
    value = json.loads(out.splitlines()[-1])
    assert value["engine"] == {"is_wrong": False}
    assert value["baseline"] == {
        "checkpoint": CHECKPOINT,
        "num_left_out": 0,
        "engine": {"is_wrong": True},
    }
    comparison = value["comparison"]
    assert (comparison["top_k"], comparison["seed"]) == (2, 5)
    assert (comparison["num_paired"], comparison["num_unpaired"]) == (2 * NUM_VIDEOS, 0)
    figure = comparison["overall"]["frame_ap"]
    assert figure["new"] == value["report"]["overall"]["frame_ap"]
    assert figure["verdict"] == "better"
    gain = figure["new"]["value"] - figure["baseline"]["value"]
    assert figure["difference"]["value"] == pytest.approx(gain)
    assert 0 < figure["difference"]["low"] <= figure["difference"]["high"]
    recall = comparison["by_type"]["semantic"]["recall_at_k"]
    assert recall["floor"] == value["report"]["overall"]["uniform_recall"]["value"]
    shuffled = comparison["overall"]["shuffled_ap"]
    assert shuffled["verdict"] is None
    assert shuffled["new"] == value["control"]["overall"]["shuffled_ap"]
    each = [f"{number}.mp4" for number in range(NUM_VIDEOS)]
    assert [model.scored for model in models.values()] == [each, each]  # once, and with all texts
    steps = [step for _, step in read_steps(err)]
    assert "loading the baseline" in steps
    assert f"scoring video 1 of {NUM_VIDEOS} with the baseline" in steps


def test_the_table_says_it_in_words(run, records, models, new):
    code, out, err = run(*records, "--checkpoint", new, "--baseline", CHECKPOINT, "--top-k", 2)
    assert code == 0, err
    lines = out.splitlines()
    (row,) = [line.split() for line in lines if line.startswith("frame AP")][-1:]
    assert row[-1] == "better"
    assert any(line.startswith("semantic: 6 present, 0 absent") for line in lines)
    assert f"against {CHECKPOINT}, 12 questions of any type: better: frame AP" in out
    assert "; worse: none; not told apart: " in lines[-1]
    assert max(map(len, lines[:-1])) <= 80


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--baseline", CHECKPOINT], "--baseline needs --checkpoint, --engines or --server"),
        (["--checkpoint", "{new}", "--baseline", "no such"], "no such: no such directory"),
        (
            ["--predictions", "a", "--ground-truth", "b", "--baseline", CHECKPOINT],
            "--baseline does not go with --predictions",
        ),
    ],
)
def test_a_baseline_that_cannot_be_is_told_before_any_work(args, message, run, models, new):
    code, out, err = run(*[arg.format(new=new) for arg in args])
    assert (code, out) == (2, "")
    assert_one_error(err, message)
    assert [model.scored for model in models.values()] == [[], []]


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """The shipped checkpoint with its head turned round: the best frame is the worst."""
    folder = tmp_path_factory.mktemp("spoilt") / "checkpoint"
    shutil.copytree(SHIPPED_CHECKPOINT, folder, ignore=shutil.ignore_patterns("training"))
    weights = load_file(folder / "model.safetensors")
    weights["out_proj.weight"] = -weights["out_proj.weight"]
    save_file(weights, folder / "model.safetensors")
    return folder


def test_real_checkpoints_are_told_apart_or_not(run, monkeypatch, spoilt, tmp_path):
    monkeypatch.setattr("train.digits.downstream.downstream_report", lambda *_, **__: None)
    keep = tmp_path / "digits"
    digits = ("--num-videos", 4, "--num-frames", 16, "--keep", keep, "--top-k", 4)
    code, out, err = run(*digits, "--checkpoint", spoilt, "--baseline", CHECKPOINT, "--json")
    assert code == 0, err
    figures = json.loads(out.splitlines()[-1])["comparison"]["overall"]
    assert figures["frame_ap"]["verdict"] == "worse"
    assert figures["recall_at_k"]["difference"]["value"] < 0

    drawn = ("--records", keep / "records.json", "--media-root", keep, "--top-k", 2)
    code, out, err = run(*drawn, "--checkpoint", CHECKPOINT, "--baseline", CHECKPOINT, "--json")
    assert code == 0, err
    comparison = json.loads(out.splitlines()[-1])["comparison"]
    for group in (comparison["overall"], *comparison["by_type"].values()):
        for figure in group.values():
            if not isinstance(figure, dict):
                continue
            assert figure["difference"]["value"] == 0
            assert {figure["difference"]["low"], figure["difference"]["high"]} <= {0, None}
            assert figure["verdict"] in ("not told apart", None)
