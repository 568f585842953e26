"""`groundserve eval highlights` of answers told in text, in this process."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest

from groundserve.cli import eval_asked
from tests.cli.command import part_options, run_cli
from tests.cli.steps import assert_one_error
from tests.support.reference import VTGLLM
from tests.support.vtgllm_cases import CASES, MAX_NEW_TOKENS
from tests.unit.evaluation.activitynet.told import Told

SERVER = "grpc://127.0.0.1:8001"


def truth(qid, query, video, **others):
    return {
        "qid": qid,
        "query": query,
        "vid": video,
        "duration": 8,
        "relevant_windows": [[0, 2]],
        "relevant_clip_ids": [1],
        "saliency_scores": [[4, 4, 4]],
        **others,
    }


def write(path, *lines):
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    return path


@pytest.fixture
def ground_truth(tmp_path):
    lines = truth(1, "a dog", "clip_a"), truth(2, "a cat", "clip_b"), truth(3, "a cow", "clip_c")
    return write(tmp_path / "truth.jsonl", *lines)


def run(ground_truth, answers, *args):
    return run_cli(
        "eval", "highlights", "--ground-truth", ground_truth, "--answers", answers, *args
    )


def told(qid, text):
    return {"vname": "clip.mp4", "generated_cap": text, "prompt": "", "query": "", "id": qid}


def test_answers_of_vtgllm(ground_truth, tmp_path):
    answers = tmp_path / "result.json"
    found = "3.0 seconds, significance score: 4.0, a dog. 8.0 seconds, significance score: 1.0, it"
    answers.write_text(json.dumps([told(1, found), told(2, "no"), told(9, "no")]), "utf-8")
    code, out, err = run(ground_truth, answers, "--json", "--seed", 3)
    assert code == 0, err
    value = json.loads(out)
    assert [value[name] for name in ("seed", "num_unread", "num_unanswered", "num_strangers")] == [
        *(3, 1, 1, 1)
    ]
    # The first is found, and of the second, which scores all alike, the first clip is none.
    assert value["highlight_map_very_good"]["value"] == pytest.approx((1 + 1 / 4) / 2)
    assert value["highlight_hit_at_1_very_good"]["value"] == 0.5
    code, out, err = run(ground_truth, answers)
    assert code == 0, err
    assert [line.split()[-3] for line in out.splitlines()[1:7]] == ["62.50", "50.00"] * 3
    assert out.splitlines()[-1] == "2 answers, 2 videos"
    for note in ("whose clips all score 0: 1", "do not count: 1", "left out: 1"):
        assert f"{note}\n" in err
    # What its evaluation makes of them, as the benchmark's predictions.
    scores = ((1, [0, 4.0, 0, 1.0]), (2, [0.0] * 4))
    made = [{"qid": query, "pred_saliency_scores": each} for query, each in scores]
    answers.write_text(json.dumps(made), "utf-8")
    again = json.loads(run(ground_truth, answers, "--json", "--seed", 3).stdout)
    assert again == {**value, "num_unread": 0, "num_strangers": 0}


def test_a_model_is_asked_what_the_file_does_not_answer(monkeypatch, ground_truth, tmp_path):
    answerer = Told(score=2.0)
    monkeypatch.setattr(eval_asked, "check_answerer", lambda *args, **others: None)
    monkeypatch.setattr(eval_asked, "open_answerer", lambda *args, **others: nullcontext(answerer))
    for name in ("clip_a.mp4", "clip_b.webm"):
        (tmp_path / name).touch()
    log = tmp_path / "mine.jsonl"
    model = ("--server", SERVER, "--media-root", tmp_path, "--json")
    first = run(ground_truth, log, *model, "--max-new-tokens", 9)
    assert first.code == 0, first.stderr
    assert "1 of 3 annotated videos are not in" in first.stderr
    assert "asking about video 2 of 2" in first.stderr
    assert json.loads(first.stdout)["highlight_hit_at_1_fair"]["value"] == 1.0
    second = run(ground_truth, log, *model)
    assert (second.code, second.stdout) == (0, first.stdout)
    assert [options.max_new_tokens for *_, options in answerer.asked] == [9, 9]
    # The file is one of the benchmark's predictions as well.
    two = write(tmp_path / "two.jsonl", truth(1, "a dog", "clip_a"), truth(2, "a cat", "clip_b"))
    code, out, err = run_cli(
        *("eval", "moments", "--predictions", log, "--ground-truth", two, "--json")
    )
    assert code == 0, err
    alike = "highlight_map_very_good"
    assert json.loads(out)[alike] == json.loads(first.stdout)[alike]


def test_a_checkpoint_answers_as_the_reference(tmp_path, clips):
    """In the wording of its evaluation, which the query is put into."""
    case = next(case for case in CASES if case.task == "highlights")
    source = case.path(clips)
    query = case.query.split("'")[1]
    ground_truth = write(tmp_path / "truth.jsonl", truth(1, query, source.stem))
    log = tmp_path / "mine.jsonl"
    code, out, err = run(
        *(ground_truth, log, "--media-root", source.parent, "--checkpoint", VTGLLM, "--json"),
        *("--family", "vtgllm", *part_options(case.parts)),
        *("--max-new-tokens", MAX_NEW_TOKENS),
    )
    assert code == 0, err
    (line,) = (json.loads(line) for line in log.read_text("utf-8").splitlines())
    assert (line["answer"], line["moments"]) == (case.text, case.moments)
    assert json.loads(out)["num_unread"] == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        pytest.param([], "cannot read", id="no_answers"),
        pytest.param(
            [
                *("--checkpoint", VTGLLM.parent / "vtimellm" / "checkpoints"),
                *("--media-root", VTGLLM),
            ],
            "vtimellm has the tasks moment, captions, chat, and not highlights",
            id="another_family",
        ),
    ],
)
def test_wrong_options(ground_truth, tmp_path, args, message):
    finished = run(ground_truth, tmp_path / "none.jsonl", *args)
    assert finished.stdout == ""
    assert finished.code == 2
    assert_one_error(finished.stderr, message)
