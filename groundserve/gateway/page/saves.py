"""A result as files for other programs."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Callable
from typing import Any, NamedTuple

from groundserve.answers import AnswerResult
from groundserve.results import ScoreResult
from groundserve.subtitles import cues_of, srt_text, webvtt_text

Result = ScoreResult | AnswerResult


class Form(NamedTuple):
    """One way to save a result."""

    name: str
    suffix: str
    text: Callable[[Result], str]


def json_text(result: Result) -> str:
    """Return what the command line prints with --json."""
    return json.dumps(result.to_json(), ensure_ascii=False, allow_nan=False)


def lines_text(result: Result) -> str:
    """Return a line of JSON for each question."""
    given = result.to_json()
    rows = given.pop("queries", None) or given.pop("answers")
    lines = [json.dumps({"video": result.video, **row}, ensure_ascii=False) for row in rows]
    return "\n".join(lines) + "\n"


def table_text(result: Result) -> str:
    """Return CSV: a row for each scored frame, or for each moment."""
    buffer = io.StringIO()
    write = csv.writer(buffer).writerow
    if isinstance(result, ScoreResult):
        write(["query", "frame", "seconds", "logit", "score", "selected"])
        for query in result.queries:
            selected = set(query.selected_frames.tolist())
            columns = (query.frame_logits.tolist(), query.frame_scores.tolist())
            times = (result.frame_indices.tolist(), result.pts_seconds.tolist())
            for frame, seconds, logit, score in zip(*times, *columns, strict=True):
                write([query.query, frame, seconds, logit, score, int(frame in selected)])
    else:
        write(["query", "start_seconds", "end_seconds", "score", "text"])
        for answer in result.answers:
            for one in answer.moments:
                row = [one.start_seconds, one.end_seconds, one.score, one.text]
                write([answer.query or answer.task, *row])
    return buffer.getvalue()


def cut_list_text(result: Result) -> str:
    """Return a list for `ffmpeg -f concat` of all spans or moments, in the order of time."""
    # What ends the quotes of ffmpeg's lists, and a line.
    name = " ".join(result.video.split()).replace("'", "'\\''")
    lines = ["ffconcat version 1.0"]
    for cue in cues_of(result):
        times = [f"inpoint {cue.start_seconds:.6f}", f"outpoint {cue.end_seconds:.6f}"]
        lines += [f"file '{name}'", *times]
    return "\n".join(lines) + "\n"


FORMS = (
    Form("JSON", ".json", json_text),
    Form("JSON lines, one a question", ".jsonl", lines_text),
    Form("CSV table", ".csv", table_text),
    Form("Subtitles (SRT)", ".srt", lambda result: srt_text(cues_of(result))),
    Form("Subtitles (WebVTT)", ".vtt", lambda result: webvtt_text(cues_of(result))),
    Form("ffmpeg cut list", ".ffconcat", cut_list_text),
)


def command_text(result: Result, options: dict[str, Any]) -> str:
    """Return the command that answers the same for a file of one's own."""
    kind = "score" if isinstance(result, ScoreResult) else "ask"
    words = ["groundserve", kind, result.video]
    for query in _queries(result):
        words += ["--query", query]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def python_text(result: Result, options: dict[str, Any], url: str) -> str:
    """Return the same in Python, for this gateway."""
    is_score = isinstance(result, ScoreResult)
    spans = {name: options[name] for name in options if name.startswith("span_")}
    rest = {name: options[name] for name in options if name not in spans}
    kind = "ScoreOptions" if is_score else "AnswerOptions"
    given = ", ".join(f"{name}={value!r}" for name, value in rest.items())
    extra = "".join(f", {name}={value!r}" for name, value in spans.items())
    call = "score" if is_score else "ask"
    return (
        f"from groundserve import Client, {kind}\n\n"
        f"with Client({url!r}) as client:\n"
        f"    result = client.{call}(\n"
        f"        {result.video!r},\n"
        f"        {_queries(result)!r},\n"
        f"        options={kind}({given}){extra},\n"
        f"    )\n"
    )


def _queries(result: Result) -> list[str]:
    if isinstance(result, ScoreResult):
        return [query.query for query in result.queries]
    return [answer.query for answer in result.answers]
