"""`groundserve eval` asks families that tell times in seconds and in tokens, in this process."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest

from groundserve.cli import eval_captions
from tests.cli.command import part_options, run_cli
from tests.support import grounded_cases, vtgllm_cases
from tests.support.reference import VTGLLM


class Alike:
    """Takes every two captions for the same."""

    def tokenize(self, captions):
        return {caption: caption.lower() for caption in captions}

    def meteor(self, pairs):
        return 1.0, [1.0] * len(pairs)


def ask(tmp_path, source, command, annotation, *model):
    annotations, log = tmp_path / "annotations.json", tmp_path / "log.jsonl"
    annotations.write_text(json.dumps({source.stem: annotation}), "utf-8")
    code, out, err = run_cli(
        *("eval", command, "--annotations", annotations, "--answers", log, "--json"),
        *("--media-root", source.parent, *model),
    )
    assert code == 0, err
    (line,) = (json.loads(line) for line in log.read_text("utf-8").splitlines())
    return line, json.loads(out)


def test_moments_of_time_tokens(tmp_path, clips):
    case = next(case for case in grounded_cases.CASES if case.text == "alk<28><199>)+e")
    sentence = case.query.split("'")[1]
    annotation = {"duration": 10.0, "timestamps": [[0, 10]], "sentences": [sentence]}
    line, found = ask(
        *(tmp_path, case.path(clips), "moments", annotation, "--family", "grounded_videollm"),
        *("--checkpoint", grounded_cases.WEIGHTS),
        *part_options(grounded_cases.PARTS[case.model]),
        *("--max-new-tokens", grounded_cases.MAX_NEW_TOKENS, "--protocol", "activitynet"),
    )
    assert line["answer"] == case.text
    assert found["miou"]["value"] == pytest.approx((199 - 28) / 300)
    assert found["num_unread"] == 0
    assert [found[f"r1_at_0{at}"]["value"] for at in (3, 5, 7)] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(("command", "task"), [("moments", "moment"), ("captions", "captions")])
def test_answers_in_seconds(tmp_path, clips, monkeypatch, command, task):
    monkeypatch.setattr(eval_captions, "require_language", lambda: None)
    monkeypatch.setattr(eval_captions, "JavaLanguage", lambda: nullcontext(Alike()))
    case = next(case for case in vtgllm_cases.CASES if case.task == task)
    sentence = case.query.split("'")[1] if task == "moment" else "A rabbit."
    annotation = {"duration": 10.0, "timestamps": [[0, 10]], "sentences": [sentence]}
    line, found = ask(
        *(tmp_path, case.path(clips), command, annotation, "--family", "vtgllm"),
        *("--checkpoint", VTGLLM, *part_options(case.parts)),
        *("--max-new-tokens", vtgllm_cases.MAX_NEW_TOKENS, "--protocol", "vtgllm"),
    )
    assert line["answer"] == case.text
    assert (line["moments"], case.moments) == ([], [])
    assert found["num_unread"] == 1
    assert found["miou" if task == "moment" else "f1"]["value"] == 0.0
