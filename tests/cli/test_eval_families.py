"""`groundserve eval` asks families that tell times in seconds and in tokens, in this process."""

from __future__ import annotations

import json

import pytest

from tests.cli.command import part_options, run_cli
from tests.support import grounded_cases


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
