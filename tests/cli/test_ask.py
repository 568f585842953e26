"""What `groundserve ask` hands to whoever answers, and what it prints, writes and draws."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest
from PIL import Image

from groundserve.answers import Moment
from groundserve.limits import Limits
from groundserve.options import AnswerOptions
from tests.cli.command import run_cli
from tests.cli.steps import without_steps
from tests.support.origin import Origin, whole
from tests.support.reference import SET_2
from tests.support.results import make_answer, make_answers

VIDEO = SET_2 / "vfr.mp4"
SERVER = ("--server", "grpc://127.0.0.1:9")
CAPTIONS = make_answer(
    "",
    "[two captions]",
    task="captions",
    moments=(
        Moment(start_seconds=0.0, end_seconds=1.2, text="x [bold]y[/bold]"),
        Moment(start_seconds=61.25, end_seconds=3720.0, text="bell \x07", score=0.5),
    ),
)


class Answerer:
    """Answers what it was made with, and keeps how it was asked."""

    def __init__(self, result):
        self.result = result

    def ask(self, video, queries, options, *, timeout_seconds):
        self.video, self.queries, self.options = video, queries, options
        self.timeout_seconds = timeout_seconds
        self.content = video.read_bytes()
        return self.result


@pytest.fixture
def answerer(monkeypatch):
    """Have every `groundserve ask` ask what this returns of a result."""

    def stand_in(*answers, **generation):
        answerer = Answerer(make_answers(*answers, **generation))

        def opened(*args, **kwargs):
            answerer.opened = args, kwargs
            return nullcontext(answerer)

        monkeypatch.setattr("groundserve.cli.ask.open_answerer", opened)
        return answerer

    return stand_in


def ask(*args, video=VIDEO, **kwargs):
    return run_cli("ask", video, *SERVER, *args, **kwargs)


def test_json_is_all_there_is_on_stdout(answerer):
    given = answerer(make_answer(), CAPTIONS, seed=7)
    finished = ask("--query", "a man", "--query", "a dog", "--temperature", 0.5, "--json")
    assert finished.code == 0, finished.stderr
    assert finished.stdout.count("\n") == 1
    answer = json.loads(finished.stdout)
    assert answer == json.loads(json.dumps(given.result.to_json()))
    assert {
        *("video", "family", "num_source_frames", "fps", "duration_seconds", "frame_indices"),
        *("pts_seconds", "answers", "timing_ms", "engine"),
    } <= answer.keys()
    assert answer["answers"][0] == {
        "query": "a man",
        "task": "moment",
        "prompt_token_ids": [1, -200, 7],
        "token_ids": [5, 2],
        "text": "From 20 to 50.",
        "moments": [{"start": 0.8, "end": 2.0, "score": None, "text": ""}],
        "stop_reason": "eos",
    }


def test_options_and_questions_arrive_as_given(answerer):
    given = answerer(make_answer())
    finished = ask(
        *("--query", " describe the video.", "--query", "Two\nlines", "--raw", "--task", "chat"),
        *("--clip-seconds", "0.5:99", "--max-new-tokens", 32, "--num-frames", 96),
        *("--temperature", 0.05, "--top-p", 0.6, "--seed", 3),
    )
    assert finished.code == 0, finished.stderr
    assert given.queries == [" describe the video.", "Two\nlines"]
    assert given.options == AnswerOptions(
        task="chat",
        raw=True,
        num_frames=96,
        clip_seconds=(0.5, 99.0),
        max_new_tokens=32,
        temperature=0.05,
        top_p=0.6,
        seed=3,
    )
    assert given.video == VIDEO


def test_the_video_may_come_through_stdin(answerer):
    given = answerer(make_answer())
    finished = ask("--query", "x", "--json", video="-", stdin=VIDEO.read_bytes())
    assert finished.code == 0, finished.stderr
    assert given.content == VIDEO.read_bytes()
    assert json.loads(finished.stdout)["video"] == "<stdin>"


def test_the_video_may_be_behind_a_url(answerer):
    given = answerer(make_answer())
    with Origin({"/a.mp4?key=secret": whole(VIDEO.read_bytes())}) as origin:
        allowed = ("--allow-host", "http://127.0.0.1:*", "--allow-network", "127.0.0.0/8")
        url = origin.url("/a.mp4?key=secret")
        finished = ask("--query", "x", "--json", *allowed, video=url)
        assert finished.code == 0, finished.stderr
        assert given.content == VIDEO.read_bytes()
        assert json.loads(finished.stdout)["video"] == origin.url("/a.mp4")
        assert not given.video.exists()
        refused = ask("--query", "x", *allowed[:2], video=url)
        assert (refused.code, "key" in refused.stderr) == (2, False)
        assert len(origin.requests) == 1


def test_text_is_shown_with_its_moments(answerer):
    answerer(make_answer(text="One line.\nAnother \x1b[31m."), CAPTIONS)
    finished = ask("--query", "a man", "--query", "b")
    first, empty, query, line, another, _, times, *rest = finished.stdout.splitlines()
    assert first == "bikes.mp4: 100 frames, 25.000 fps, 0:04.0; saw 4 frames, a token each"
    assert (empty, query, line) == ("", "a man", "One line.")
    assert another == r"Another \x1b[31m."
    assert times.split() == ["0:00.8", "0:02.0"]
    captions = [line.split() for line in rest]
    assert captions[1:3] == [["captions"], ["[two", "captions]"]]
    assert captions[3] == ["from", "to", "score"]
    assert captions[4] == ["0:00.0", "0:01.2", "x", "[bold]y[/bold]"]
    assert captions[5] == ["1:01.2", "1:02:00.0", "0.500", "bell", r"\x07"]


def test_the_part_that_was_looked_at_is_said_where_it_is_not_all(answerer):
    answerer(make_answer(), time_range_seconds=(0.5, 4.0))
    assert ask("--query", "x").stdout.splitlines()[1] == "looked at 0:00.5 to 0:04.0"
    answerer(make_answer(), time_range_seconds=(0.0, 4.0))
    assert "looked at" not in ask("--query", "x").stdout


def test_an_answer_without_times_that_can_be_read_says_so(answerer):
    answerer(make_answer(moments=()))
    assert "moments: none that can be read" in ask("--query", "x").stdout
    answerer(make_answer(task="chat", moments=()), is_read=(True,))
    assert "moments" not in ask("--query", "x", "--task", "chat").stdout


@pytest.mark.parametrize(
    ("answer", "generation", "note"),
    [
        ({"stop_reason": "eos"}, {}, ""),
        (
            {"stop_reason": "length"},
            {},
            "note: 1 of 1 answers were cut at 512 tokens; --max-new-tokens allows more\n",
        ),
        (
            {"stop_reason": "deadline"},
            {},
            "note: 1 of 1 answers are not whole: the time was up; --timeout-seconds allows more\n",
        ),
        ({}, {"seed": 2**63 - 1}, f"note: drawn with --seed {2**63 - 1}\n"),
    ],
)
def test_notes_say_what_an_answer_does_not(answerer, answer, generation, note):
    answerer(make_answer(**answer), **generation)
    finished = ask("--query", "x", "--json")
    assert without_steps(finished.stderr) == note


def test_moments_are_drawn_and_written_as_subtitles(answerer, tmp_path):
    reversed_moment = Moment(start_seconds=3.0, end_seconds=1.0)
    answerer(make_answer("a man"), make_answer("b", moments=(reversed_moment,)))
    plot, srt = tmp_path / "plot.png", tmp_path / "moments.srt"
    finished = ask("--query", "a man", "--query", "b", "--plot", plot, "--srt", srt)
    assert finished.code == 0, finished.stderr
    with Image.open(plot) as image:
        assert image.format == "PNG"
    assert srt.read_text() == "1\n00:00:00,800 --> 00:00:02,000\na man\n"
    assert f"note: {srt} lacks moments that end before they start: 1" in finished.stderr


def test_more_time_than_usual_is_given_where_it_is_asked_for(answerer, monkeypatch):
    given = answerer(make_answer())
    assert ask("--query", "x").code == 0
    assert given.timeout_seconds is None
    assert given.opened[1]["limits"] is None  # a server has its own
    monkeypatch.setattr("groundserve.cli.ask.check_answerer", lambda *_, **__: None)
    args = ("ask", VIDEO, "--query", "x", "--engines", "engines", "--timeout-seconds")
    for seconds, most in ((1500, 1500.0), (5, Limits().max_request_seconds)):
        assert run_cli(*args, seconds).code == 0
        assert given.timeout_seconds == seconds
        assert given.opened[1]["limits"].max_request_seconds == most
