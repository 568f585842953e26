"""`groundserve eval moments` and `eval captions` of answers told in text, in this process."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from functools import partial

import pytest

from groundserve.cli import eval_answers, eval_asked
from tests.cli.command import run_cli
from tests.cli.steps import assert_one_error
from tests.support.reference import REPOSITORY
from tests.unit.evaluation.activitynet.recorded import (
    ANNOTATION,
    LOG,
    REFERENCE,
    RecordedLanguage,
    cases,
)
from tests.unit.evaluation.activitynet.told import Alike, Told

FILES = ("--annotations", ANNOTATION, "--answers", LOG)
RECORDED = cases()["log_metrics"]


@pytest.fixture
def run():
    return partial(run_cli, "eval")


def refused(finished, message):
    assert (finished.code, finished.stdout) == (2, "")
    assert_one_error(finished.stderr, message)


@pytest.fixture
def no_java(monkeypatch):
    """Says what Java said."""
    monkeypatch.setattr(eval_answers, "require_language", lambda: None)
    monkeypatch.setattr(eval_answers, "JavaLanguage", lambda: nullcontext(RecordedLanguage()))


@pytest.fixture
def told(monkeypatch):
    """Answers in the place of any model."""
    answerer = Told()
    monkeypatch.setattr(eval_asked, "check_answerer", lambda *args, **others: None)
    monkeypatch.setattr(eval_asked, "open_answerer", lambda *args, **others: nullcontext(answerer))
    return answerer


def test_the_pages_sample_of_answers_is_read_as_it_says(run, tmp_path):
    page = (REPOSITORY / "docs" / "evaluate.md").read_text("utf-8")
    (annotations,) = re.findall(r"^```json\n(\{.*\"timestamps\".*)\n```$", page, re.MULTILINE)
    (answers,) = re.findall(r"<!-- sample: answers -->\n```json\n(.*?)```", page, re.DOTALL)
    (tmp_path / "val_2.json").write_text(annotations)
    (tmp_path / "log.jsonl").write_text(answers)
    files = ("--annotations", tmp_path / "val_2.json", "--answers", tmp_path / "log.jsonl")
    code, out, err = run("moments", *files, "--json")
    assert code == 0, err
    found = json.loads(out)["miou"]
    assert found["num_questions"] == 2
    (told,) = re.findall(r"Of these two, `eval moments` gives mIoU ([\d.]+)\.\n", page)
    assert f"{100 * found['value']:.1f}" == told


def test_moments_as_json(run):
    code, out, err = run("moments", *FILES, "--json", "--seed", 5)
    assert code == 0, err
    value = json.loads(out)
    assert (value["seed"], value["num_unread"], value["num_restated"]) == (5, 1, 0)
    names = {"miou": "mIoU", "r1_at_03": "R1@0.3", "r1_at_05": "R1@0.5", "r1_at_07": "R1@0.7"}
    for name, label in names.items():
        assert 100 * value[name]["value"] == pytest.approx(RECORDED["grounding"][label], rel=1e-9)
        assert value[name]["low"] <= value[name]["value"] <= value[name]["high"]


def test_moments_as_a_table(run):
    code, out, err = run("moments", *FILES)
    assert code == 0, err
    table = {line.split()[0]: line.split()[1] for line in out.splitlines()[1:]}
    printed = dict(line.split(": ") for line in RECORDED["script_output"][-4:])
    assert table.items() >= printed.items()
    assert out.splitlines()[-1] == "7 answers, 3 videos"
    assert "answers without times that can be read, which are misses: 1\n" in err


def test_captions(run, no_java):
    code, out, err = run("captions", *FILES, "--json")
    assert code == 0, err
    value = json.loads(out)
    for name, label in (("soda_c", "soda_c"), ("meteor", "METEOR"), ("cider", "CIDEr")):
        assert 100 * value[name]["value"] == pytest.approx(RECORDED["captioning"][label], rel=1e-9)
    code, out, err = run("captions", *FILES)
    assert code == 0, err
    rows = [line.split()[:2] for line in out.splitlines()]
    assert rows[1:4] == [["SODA_c", "19.92"], ["METEOR", "18.27"], ["CIDEr", "182.75"]]
    assert out.splitlines()[-1] == "3 answers, 3 videos"
    assert "videos without an answer that can be read, which count 0: 1\n" in err


def test_answers_of_another_reference(run, no_java, monkeypatch, tmp_path):
    monkeypatch.setattr(eval_answers, "JavaLanguage", lambda: nullcontext(Alike(0.5)))
    annotations, answers = tmp_path / "val.caption_coco_format.json", tmp_path / "result.json"
    moment = {"image_id": "a.mp4", "caption": "A dog.", "timestamp": [0, 10], "id": 0}
    told = {"vname": "a.mp4", "generated_cap": "0.0 - 5.0 seconds, a dog.", "prompt": ""}
    files = ("--annotations", annotations, "--answers", answers, "--protocol", "vtgllm")
    annotations.write_text(json.dumps({"annotations": [moment]}), "utf-8")
    answers.write_text(json.dumps([{**told, "query": "A dog", "id": 0}]), "utf-8")
    code, out, err = run("moments", *files)
    assert code == 0, err
    assert "mIoU     50.00 " in out
    events = [
        {"image_id": f"{name}.mp4", "caption": "A dog ran.", "duration": 9, "segments": [[0, 5]]}
        for name in "ab"
    ]
    annotations.write_text(json.dumps({"annotations": events}), "utf-8")
    answers.write_text(json.dumps([told]), "utf-8")
    code, out, err = run("captions", *files, "--json")
    assert code == 0, err
    assert json.loads(out)["f1"]["value"] == 0.5
    code, _, err = run("captions", *files)
    assert (code, "without an answer, which count 0: 1\n" in err) == (0, True)


def test_captions_without_java(run, tmp_path):
    code, _, err = run_cli("eval", "captions", *FILES, env={"PATH": str(tmp_path)})
    assert code == 1
    assert "there is no java on PATH" in err


@pytest.mark.parametrize(
    ("task", "count"),
    [pytest.param("moments", 6, id="moments"), pytest.param("captions", 3, id="captions")],
)
def test_a_model_is_asked_what_the_file_does_not_answer(
    run, told, no_java, tmp_path, task, count, monkeypatch
):
    monkeypatch.setattr(eval_answers, "JavaLanguage", lambda: nullcontext(Alike(0.5)))
    for name in ("clip_a.mp4", "clip_b.webm", "clip_c.mkv"):
        (tmp_path / name).touch()
    log = tmp_path / "log.jsonl"
    given = (task, "--annotations", ANNOTATION, "--answers", log, "--json")
    model = ("--server", "grpc://127.0.0.1:8001", "--media-root", tmp_path)
    first = run(*given, *model, "--max-new-tokens", 9)
    assert first.code == 0, first.stderr
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert len(lines) == count
    assert {line["model"] for line in lines} == {"grpc://127.0.0.1:8001"}
    told_all = {"answer", "moments", "duration_seconds", "video_id", "task", "query_id", "model"}
    assert all(told_all | ({"info"} if task == "moments" else set()) == {*it} for it in lines)
    assert {options.max_new_tokens for *_, options in told.asked} == {9}
    assert "1 of 4 annotated videos are not in" in first.stderr
    assert "asking about video 3 of 3" in first.stderr
    whole = log.read_bytes()
    log.write_bytes(whole[:-3])  # all of the last answer but its end was written
    asked = [queries for _, queries, _ in told.asked]
    for num_asked in (1, 0):
        told.asked.clear()
        second = run(*given, *model, "--max-new-tokens", 9)
        assert (second.code, second.stdout) == (0, first.stdout)
        assert [queries for _, queries, _ in told.asked] == [asked[-1][-1:]] * num_asked
        assert log.read_bytes() == whole
    assert run(*given).stdout == first.stdout
    other = run(*given[:-1], "--checkpoint", "mine", "--media-root", tmp_path)
    refused(other, "name another file for this model's answers")


@pytest.mark.parametrize(
    ("command", "case_name", "annotation"),
    [
        pytest.param(
            "moments",
            "grounding_eval",
            {"timestamps": [[0, 2]], "sentences": [" A rabbit looks out of the window."]},
            id="moments",
        ),
        pytest.param(
            "captions",
            "captioning_eval",
            {"timestamps": [[0, 2]], "sentences": ["A man talks."]},
            id="captions",
        ),
    ],
)
def test_a_checkpoint_answers_as_the_reference(
    run, no_java, monkeypatch, tmp_path, clips, command, case_name, annotation
):
    """In the wording of its evaluation, which the sentence is put into."""
    monkeypatch.setattr(eval_answers, "JavaLanguage", lambda: nullcontext(Alike(0.5)))
    (case,) = (case for case in cases()["cases"] if case["name"] == case_name)
    source = clips[case["video"]]
    annotations, log = tmp_path / "annotations.json", tmp_path / "log.jsonl"
    annotations.write_text(json.dumps({source.stem: {"duration": 5.3, **annotation}}), "utf-8")
    code, _, err = run(
        *(command, "--annotations", annotations, "--answers", log, "--media-root", source.parent),
        *("--checkpoint", REFERENCE / "checkpoints", "--max-new-tokens", 32, "--json"),
    )
    assert code == 0, err
    (line,) = (json.loads(line) for line in log.read_text("utf-8").splitlines())
    assert line["answer"] == case["runs"]["fp32"]["greedy_text"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        pytest.param(
            ["moments", *FILES, "--predictions", "a"], "do not go with --annotations", id="both"
        ),
        pytest.param(
            ["moments", "--predictions", "a", "--ground-truth", "b", "--server", "grpc://a:1"],
            "--server goes with --annotations",
            id="a_model_for_files",
        ),
        pytest.param(
            ["moments", *FILES, "--media-root", "a"],
            "--media-root goes with --checkpoint, --engines or --server",
            id="videos_for_nobody",
        ),
        pytest.param(
            ["moments", *FILES, "--server", "grpc://a:1"], "needs --media-root", id="no_videos"
        ),
        pytest.param(
            ["captions", *FILES, "--protocol", "coco"], "protocol must be one of", id="protocol"
        ),
        pytest.param(
            ["moments", *FILES[:2], "--answers", ANNOTATION], "line 1: not JSON", id="not_a_log"
        ),
    ],
)
def test_wrong_options(run, args, message):
    refused(run(*args), message)


def test_answers_are_looked_at_before_a_model_is_opened(run, monkeypatch, tmp_path):
    def opened(*args, **others):
        raise AssertionError("opened")

    monkeypatch.setattr(eval_asked, "check_answerer", lambda *args, **others: None)
    monkeypatch.setattr(eval_asked, "open_answerer", opened)
    model = ("--server", "grpc://127.0.0.1:8001", "--media-root")
    refused(run("moments", *FILES, *model, tmp_path), "answered by null and not by")
    new = ("--annotations", ANNOTATION, "--answers", tmp_path / "new.jsonl")
    refused(run("moments", *new, *model, tmp_path), "has none of the annotated videos")
    assert not (tmp_path / "new.jsonl").exists()
