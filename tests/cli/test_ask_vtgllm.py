"""The command line over a checkpoint with times as tokens that the reference ran."""

from __future__ import annotations

import pytest

from groundserve.engines.manifest import Manifest
from tests.cli.command import part_options, run_cli
from tests.cli.recorded import ask, check, doctor
from tests.cli.steps import assert_one_error
from tests.support.reference import VTGLLM
from tests.support.vtgllm_cases import CASES, MAX_NEW_TOKENS, RELEASED

FAMILY = ("--family", "vtgllm")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_recorded_cases_in_pytorch(case, clips):
    found = ask(case, clips, *FAMILY, "--checkpoint", VTGLLM, *part_options(case.parts))
    check(case, found)
    assert (found["family"], found["engine"]["profile"]) == ("vtgllm", "torch")
    assert found["answers"][0]["moments"] == case.moments == []


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
    found = doctor("--checkpoint", VTGLLM, *FAMILY, *part_options(CASES[0].parts))
    assert found["family"] == "vtgllm; a long video gives 96 frames, each told its time"
    assert found["vocabulary"] == "612 tokens, 612 embedding rows"
