"""What families that answer in text refuse: typed, before anything is decoded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import psutil
import pytest

from groundserve import AnswerOptions, Client, InvalidRequestError, UnsupportedError
from tests.hostile.judge import Judge
from tests.triton.answers import FREE_BOX, url
from tests.triton.protocol import Arrays, Protocol, RejectedError, texts, upload

SERVERS = {"vtimellm": "answering", "vtgllm": "timed", "grounded_videollm": "grounded"}
ENDLESS = {"max_new_tokens": 10**9, "temperature": 1e9, "seed": 1}
# Family, options beside the task, questions, a part of the message.
REFUSED = {
    "endless": ("vtimellm", "chat", ENDLESS, "x", "max_new_tokens must be <= 4096"),
    "no_room": (
        *("vtimellm", "chat", {"max_new_tokens": 4096}, "x"),
        "max_new_tokens 4096, together more than 4096",
    ),
    "unknown_task": ("vtimellm", "translate", {}, "x", "task must be one of moment, captions, "),
    "clip_backwards": (
        *("vtimellm", "chat", {"clip_seconds": [3, 2]}, "x"),
        "0 <= start < end, got [3, 2]",
    ),
    "seed_without_draws": (
        *("vtimellm", "chat", {"seed": 1}, "x"),
        "seed goes with a temperature above 0",
    ),
    "option_of_the_other_head": (
        *("vtimellm", "chat", {"top_k": 4}, "x"),
        'unknown option "top_k"; known options: task, raw, ',
    ),
    "many_questions": (
        *("vtimellm", "chat", {}, [""] * 200_000),
        "QUERY must hold 1..32 questions, got 200000",
    ),
    "no_words": (
        *("vtimellm", "moment", {}, " "),
        "QUERY[0] must say what to ask with task moment, got no words",
    ),
    "placeholder_of_vtimellm": (
        *("vtimellm", "chat", {}, "a <video>"),
        "must not contain the placeholder",
    ),
    "placeholder_of_vtgllm": (
        *("vtgllm", "chat", {}, "an <ImageHere>"),
        "must not contain the placeholder <ImageHere>",
    ),
    "moment_of_nothing": ("vtgllm", "moment", {}, " . ", "must say what to look for"),
    "captions_of_something": ("vtgllm", "captions", {}, "x", "must be empty with task captions"),
    "frames": ("vtgllm", "chat", {"num_frames": 97}, "x", "num_frames must be <= 96 for this"),
    "placeholder_behind_the_end_token": (
        *("grounded_videollm", "chat", {"control_tokens": True}, "<im<|endoftext|>age>"),
        "must not contain the placeholder <image>",
    ),
    "no_time": (
        *("grounded_videollm", "referring", {}, "until the end"),
        "must name the times it refers to",
    ),
    "a_number_past_all": (
        *("grounded_videollm", "referring", {"raw": True}, f"at {'9' * 400} seconds"),
        "a number of seconds that is past all numbers",
    ),
    "question_too_long": ("vtimellm", "chat", {}, "x y " * 3000, "together more than 4096; short"),
    "clip_past_the_end": (
        *("vtimellm", "chat", {"clip_seconds": [1e9, 2e9]}, "x"),
        "must start before the video ends",
    ),
    "long_question": (
        *("grounded_videollm", "chat", {}, "x y\n" * 2000),
        "must have at most 2048 tokens",
    ),
    "time_past_the_end": (
        *("grounded_videollm", "referring", {}, "until 1e 99999 seconds"),
        "names a time past the video's end",
    ),
}
UNSUPPORTED = [
    ("vtimellm", "highlights", {}, "has the tasks moment, captions, chat, got highlights"),
    ("vtimellm", "chat", {"num_frames": 8}, "has no option num_frames; leave it out"),
    ("vtgllm", "question", {}, "has the tasks moment, captions, highlights, summary, chat"),
    ("grounded_videollm", "summary", {}, "has the tasks moment, captions, question, referring"),
]


def asking(task: str, query: str | list[str], **options: object) -> Arrays:
    questions = [query] if isinstance(query, str) else query
    given = {"task": task, "max_new_tokens": 4, **options}
    return {"QUERY": texts(*questions), "OPTIONS": texts(json.dumps(given))}


@pytest.fixture(scope="module")
def judge_of(request, clips) -> Iterator[Callable[[str], Judge]]:
    """By family who asks; behind it the same processes give the same bits for the same request."""
    video = upload(clips["carphone_pristine"].read_bytes())
    judges: dict[str, Judge] = {}
    before = {}

    def state(family: str) -> tuple[set[int], Arrays]:
        server = request.getfixturevalue(SERVERS[family])
        root = psutil.Process(server.triton.pid)
        answer = judges[family].ask(family, judges[family].good)
        assert not isinstance(answer, RejectedError), answer
        return {root.pid, *(child.pid for child in root.children())}, answer

    def find(family: str) -> Judge:
        if family not in judges:
            server = request.getfixturevalue(SERVERS[family])
            good = {"VIDEO": video, **asking("chat", "When?")}
            judges[family] = Judge(Protocol("grpc", server.triton.grpc_address), good)
            before[family] = state(family)
        return judges[family]

    yield find
    for family, judge in judges.items():
        processes, answer = state(family)
        assert processes == before[family][0]
        for name in answer.keys() - {"INFO"}:
            np.testing.assert_array_equal(answer[name], before[family][1][name], strict=True)
        judge.protocol.client.close()


@pytest.mark.parametrize("name", REFUSED)
def test_what_breaks_a_rule_is_refused_before_anything_is_decoded(name, judge_of, request):
    family, task, options, query, message = REFUSED[name]
    judge = judge_of(family)
    server = request.getfixturevalue(SERVERS[family])
    before = server.metrics()
    # A video that the cache does not know.
    video = upload(judge.good["VIDEO"].tobytes() + FREE_BOX)
    refusal = judge.ask(family, {"VIDEO": video, **asking(task, query, **options)})
    assert isinstance(refusal, RejectedError), "an answer, not a refusal"
    assert refusal.code == "INVALID_ARG"
    assert message in refusal.message
    assert server.growth(before)["frames_decoded_total"] == 0


@pytest.mark.parametrize(("family", "task", "options", "message"), UNSUPPORTED)
def test_what_another_family_has_is_refused_by_name(
    family, task, options, message, judge_of, request, clips
):
    judge = judge_of(family)
    refusal = judge.ask(family, {**judge.good, **asking(task, "x", **options)})
    assert isinstance(refusal, RejectedError)
    assert refusal.code == "UNSUPPORTED"
    assert refusal.message.startswith(f"in ensemble '{family}', {family} {message}")
    given = replace(AnswerOptions(task=task, max_new_tokens=4), **options)
    server = request.getfixturevalue(SERVERS[family])
    with Client(url(server.triton)) as client, pytest.raises(UnsupportedError) as caught:
        client.ask(clips["vfr"], "x", given)
    assert f"in ensemble '{family}', {caught.value}" == refusal.message


def test_a_task_that_asks_by_itself_takes_no_question(answering, clips):
    with Client(url(answering.triton)) as client:
        asked = AnswerOptions(task="captions", max_new_tokens=2)
        with pytest.raises(InvalidRequestError, match="must be empty with task captions"):
            client.ask(clips["vfr"], "When?", asked)
        with pytest.raises(InvalidRequestError, match="must say what to ask with task moment"):
            client.ask(clips["vfr"])
        (answer,) = client.ask(clips["vfr"], options=asked).answers
        assert (answer.query, answer.task) == ("", "captions")
