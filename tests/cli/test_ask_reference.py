"""The command line over a checkpoint that the reference ran: asked, built, examined."""

from __future__ import annotations

import json
import shutil

import pytest

from groundserve.engines.manifest import Manifest
from tests.cli.command import part_options, run_cli
from tests.cli.recorded import ask, check, doctor
from tests.cli.steps import assert_one_error
from tests.support.answer_cases import CASES, CHECKPOINTS, MODELS

PROJECTOR = CHECKPOINTS / "vtimellm-vicuna-tiny-stage1" / "mm_projector.bin"


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_recorded_cases_in_pytorch(case, clips):
    # The third stage's parts are all found.
    parts = [] if case.model == "stage3" else part_options(MODELS[case.model])
    found = ask(case, clips, "--checkpoint", CHECKPOINTS, *parts)
    check(case, found)
    assert found["answers"][0]["moments"] == []
    assert (found["family"], found["engine"]["profile"]) == ("vtimellm", "torch")


def test_a_recorded_case_with_engines(clips, answer_engines):
    case = next(case for case in CASES if case.name == "split_range")
    found = ask(case, clips, "--engines", answer_engines(case.model))
    check(case, found)
    assert found["engine"]["profile"] == "cpu"


def test_an_end_past_the_videos_is_its_end(clips, answer_engines):
    finished = run_cli(
        *("ask", clips["bikes"], "--engines", answer_engines("stage3"), "--json"),
        *("--query", "a man", "--query", "a tree", "--max-new-tokens", 4),
        *("--clip-seconds", "0.5:99"),
    )
    assert finished.code == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert found["generation"]["time_range_seconds"] == [0.5, found["duration_seconds"]]
    assert (found["frame_indices"][0], found["frame_indices"][-1]) == (12, 249)
    # The prompt up to the video and its 100 rows, computed once for both.
    assert found["generation"]["prefix_tokens"] == case_prefix(found["answers"][0]) + 100
    for answer in found["answers"]:
        assert answer["stop_reason"] == "length"
        assert "were cut at 4 tokens" in finished.stderr


def case_prefix(answer):
    return answer["prompt_token_ids"].index(-200)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--clip-seconds", "99:100"], "clip_seconds must start before the video ends"),
        (["--max-new-tokens", "4096"], "and max_new_tokens 4096, together more than"),
    ],
)
def test_what_does_not_go_together_is_refused_before_it_is_decoded(
    clips, answer_engines, args, message
):
    finished = run_cli(
        *("ask", clips["bikes"], "--engines", answer_engines("stage3"), "--query", "x", *args)
    )
    assert finished.code == 2
    assert finished.stdout == ""
    assert_one_error(finished.stderr, message)


def test_build_takes_the_family_and_the_parts(clips, tmp_path):
    out = tmp_path / "engines"
    # Where nothing tells the family: all parts lie elsewhere.
    (tmp_path / "nothing").mkdir()
    finished = run_cli(
        *("build", "--checkpoint", tmp_path / "nothing", "--out", out, "--profile", "torch"),
        *("--family", "vtimellm", "--unchecked"),
        *("--part", f"clip={CHECKPOINTS / 'clip' / 'ViT-tiny.pt'}"),
        *("--part", f"base={CHECKPOINTS / 'vicuna-tiny'}"),
        *("--part", f"projector={PROJECTOR}"),
        *part_options(MODELS["stage3"]),
    )
    assert finished.code == 0, finished.stderr
    assert "vtimellm, torch, fp32 on cpu" in finished.stdout
    assert Manifest.load(out).family == "vtimellm"
    case = next(case for case in CASES if case.name == "describe_cli")
    check(case, ask(case, clips, "--engines", out))


def test_doctor_says_what_it_found():
    found = doctor("--checkpoint", CHECKPOINTS, "--activations")
    assert found["family"].startswith("vtimellm; a long video gives 100 frames, a token")
    assert found["activations"].startswith("largest magnitude ")
    # Of the tiny decoder: tables, two layers, norms; and of the projector.
    hidden, ffn, vocabulary, width = 64, 172, 640, 32
    layer = 4 * hidden**2 + 3 * hidden * ffn + 2 * hidden
    num = 2 * vocabulary * hidden + 2 * layer + hidden + hidden * width + hidden
    assert found["weights"] == f"all behind the vision stage: {num:,} parameters"
    assert found["clip"].startswith("ViT-tiny.pt, OpenAI's archive")
    assert "ViT-tiny-state_dict.pt" in found["left aside"]


def test_doctor_says_what_is_missing(tmp_path):
    checkpoint = tmp_path / "checkpoints"
    shutil.copytree(CHECKPOINTS, checkpoint)
    shutil.rmtree(checkpoint / "vicuna-tiny")
    shutil.rmtree(checkpoint / "clip")
    shutil.rmtree(checkpoint / "clip-hf")
    finished = run_cli("doctor", "--checkpoint", checkpoint)
    assert finished.code == 2
    assert_one_error(finished.stderr, "parts of vtimellm are missing: clip (")
    assert "; base (" in finished.stderr
    assert "found: projector " in finished.stderr
    assert "name what lies elsewhere, as with --part clip=PATH" in finished.stderr
