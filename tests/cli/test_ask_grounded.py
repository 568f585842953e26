"""The command line over a checkpoint in two streams that the reference ran: asked and examined."""

from __future__ import annotations

import json

import pytest

from groundserve.batch.engines import EngineSource
from groundserve.options import AnswerOptions
from tests.batch_rows import answer_rows
from tests.cli.command import run_cli
from tests.cli.steps import assert_one_error
from tests.grounded_cases import CASES, MAX_NEW_TOKENS, PARTS, WEIGHTS

FAMILY = ("--family", "grounded_videollm")


def ask(case, clips, *source):
    """Ask as whoever checks from outside does."""
    finished = run_cli(
        *("ask", case.path(clips), "--task", case.task, "--raw", "--query", case.query, "--json"),
        *("--max-new-tokens", MAX_NEW_TOKENS, *source),
    )
    assert finished.code == 0, finished.stderr
    assert finished.stdout.count("\n") == 1
    return json.loads(finished.stdout)


def check(case, found):
    (answer,) = found["answers"]
    assert found["family"] == "grounded_videollm"
    assert found["frame_indices"] == case.frame_indices
    assert answer["prompt_token_ids"] == case.input_ids
    num_sure = case.num_sure(1e-4)
    assert answer["token_ids"][:num_sure] == case.token_ids[:num_sure]
    if num_sure == len(case.token_ids):
        assert answer["text"] == case.text
        assert answer["stop_reason"] == ("eos" if case.stopped_by_eos else "length")


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_recorded_cases_in_pytorch(case, clips):
    found = ask(case, clips, *FAMILY, "--checkpoint", WEIGHTS, "--part", f"llm={case.model}")
    check(case, found)
    assert found["engine"]["profile"] == "torch"


@pytest.mark.parametrize("task", ["moment", "question", "referring"])
@pytest.mark.parametrize("model", ["phi3.5", "llama3"])
def test_recorded_cases_with_engines(model, task, clips, grounded_engines):
    case = next(case for case in CASES if (case.model, case.task) == (model, task))
    found = ask(case, clips, "--engines", grounded_engines(model))
    check(case, found)
    assert found["engine"]["profile"] == "cpu"


def test_a_moment_is_asked_for_in_the_references_words(clips, grounded_engines):
    case = next(case for case in CASES if case.task == "moment")
    description = case.query.split("'")[1]
    finished = run_cli(
        *("ask", case.path(clips), "--engines", grounded_engines(case.model)),
        *("--query", description, "--max-new-tokens", MAX_NEW_TOKENS),
    )
    assert finished.code == 0, finished.stderr
    first, *lines = finished.stdout.splitlines()
    assert first.endswith("; saw 96 frames, in segments of 8")
    assert case.text in lines
    assert "0:00.9  0:06.6" in finished.stdout.replace("   ", "  ")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--clip-seconds", "1:2"], "grounded_videollm has no option clip_seconds; leave it out"),
        (["--num-frames", "8"], "grounded_videollm has no option num_frames; leave it out"),
        (["--query", "what is <image>?"], "must not contain the placeholder <image>"),
        (["--task", "summary"], "grounded_videollm has the tasks moment, captions, question,"),
        (["--task", "referring"], "must name the times it refers to"),
    ],
)
def test_what_does_not_go_together_is_refused_before_it_is_decoded(
    clips, grounded_engines, args, message
):
    finished = run_cli(
        *("ask", clips["bikes"], "--engines", grounded_engines("phi3.5"), "--query", "x", *args)
    )
    assert finished.code == 2
    assert finished.stdout == ""
    assert_one_error(finished.stderr, message)


def test_a_batch_has_the_same_answers(clips, tmp_path):
    """A row of each task."""
    cases = [case for case in CASES if case.model == "phi3.5"][:3]
    source = EngineSource(
        checkpoint=str(WEIGHTS), head="text", family="grounded_videollm", parts=PARTS["phi3.5"]
    )
    assert source.identity(AnswerOptions()).family == "grounded_videollm"
    rows = [
        {
            "id": case.name,
            "video": str(case.path(clips)),
            "query": case.query,
            "options": json.loads(case.options.to_json()),
        }
        for case in cases
    ]
    found = answer_rows(source, rows, tmp_path)
    assert {case.query: case.token_ids for case in cases} == {
        query: answer.token_ids.tolist() for query, answer in found.items()
    }
    assert {case.task for case in cases} == {"moment", "question", "referring"}


def test_of_two_decoders_one_is_to_be_named(clips):
    finished = run_cli("ask", clips["bikes"], *FAMILY, "--checkpoint", WEIGHTS, "--query", "x")
    assert finished.code == 2
    assert_one_error(finished.stderr, "--part llm=")


def test_doctor_says_what_it_found():
    finished = run_cli("doctor", "--checkpoint", WEIGHTS, *FAMILY, "--part", "llm=phi3.5", "--json")
    assert finished.code == 0, finished.stderr
    found = {row["subject"]: row for row in json.loads(finished.stdout)["findings"]}
    said = found["family"]["detail"]
    assert said == "grounded_videollm; a long video gives 96 frames, in segments of 8"
    # Those for times are tokens as any other.
    assert "<300>" not in found["special tokens"]["detail"]
    assert found["vocabulary"]["detail"] == "793 tokens, 846 embedding rows"
