"""The command line over a checkpoint with times as tokens that the reference ran."""

from __future__ import annotations

import json

import pytest

from groundserve.engines.manifest import Manifest
from tests.cli.command import part_options, run_cli
from tests.cli.steps import assert_one_error
from tests.support.reference import VTGLLM
from tests.support.vtgllm_cases import CASES, MAX_NEW_TOKENS, RELEASED

FAMILY = ("--family", "vtgllm")


def ask(case, clips, *source):
    """Ask as whoever checks from outside does."""
    finished = run_cli(
        *("ask", case.path(clips), "--task", case.task, "--raw", "--query", case.query, "--json"),
        *("--max-new-tokens", MAX_NEW_TOKENS, *source),
        *(() if case.num_frames is None else ("--num-frames", case.num_frames)),
    )
    assert finished.code == 0, finished.stderr
    assert finished.stdout.count("\n") == 1
    return json.loads(finished.stdout)


def check(case, found):
    (answer,) = found["answers"]
    assert found["family"] == "vtgllm"
    assert found["frame_indices"] == case.frame_indices
    assert answer["prompt_token_ids"] == case.input_ids
    assert answer["token_ids"] == case.token_ids
    assert answer["text"] == case.text
    assert answer["stop_reason"] == ("eos" if case.ended_by_eos else "length")
    assert (answer["query"], answer["task"]) == (case.query, case.task)
    assert answer["moments"] == case.moments == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_recorded_cases_in_pytorch(case, clips):
    found = ask(case, clips, *FAMILY, "--checkpoint", VTGLLM, *part_options(case.parts))
    check(case, found)
    assert found["engine"]["profile"] == "torch"


def test_a_recorded_case_with_engines(clips, vtgllm_engines):
    case = next(case for case in CASES if (case.config, case.task) == (RELEASED, "captions"))
    found = ask(case, clips, "--engines", vtgllm_engines(RELEASED))
    check(case, found)
    assert found["engine"]["profile"] == "cpu"


def test_a_task_is_asked_in_the_references_words(clips, vtgllm_engines):
    case = next(case for case in CASES if (case.config, case.task) == (RELEASED, "highlights"))
    finished = run_cli(
        *("ask", case.path(clips), "--engines", vtgllm_engines(RELEASED)),
        *("--task", "highlights", "--query", case.query.split("'")[1]),
        *("--max-new-tokens", MAX_NEW_TOKENS),
    )
    assert finished.code == 0, finished.stderr
    first, *_ = finished.stdout.splitlines()
    assert first.endswith("; saw 96 frames, each told its time")
    assert "moments: none that can be read in it" in finished.stdout


def test_build_takes_the_configuration(clips, tmp_path):
    case = next(case for case in CASES if case.config == "text_input")
    out = tmp_path / "engines"
    finished = run_cli(
        *("build", "--checkpoint", VTGLLM, "--out", out, "--profile", "torch", *FAMILY),
        *(*part_options(case.parts), "--unchecked"),
    )
    assert finished.code == 0, finished.stderr
    assert "vtgllm, torch, fp32 on cpu" in finished.stdout
    assert Manifest.load(out).family == "vtgllm"
    check(case, ask(case, clips, "--engines", out))


def test_a_configuration_is_to_be_named(clips):
    finished = run_cli("ask", clips["bikes"], *FAMILY, "--checkpoint", VTGLLM, "--query", "x")
    assert finished.code == 2
    assert_one_error(finished.stderr, "--part config=")


def test_doctor_says_what_it_found():
    case = CASES[0]
    finished = run_cli(
        "doctor", "--checkpoint", VTGLLM, *FAMILY, *part_options(case.parts), "--json"
    )
    assert finished.code == 0, finished.stderr
    found = {row["subject"]: row for row in json.loads(finished.stdout)["findings"]}
    said = found["family"]["detail"]
    assert said == "vtgllm; a long video gives 96 frames, each told its time"
    assert found["vocabulary"]["detail"] == "612 tokens, 612 embedding rows"
