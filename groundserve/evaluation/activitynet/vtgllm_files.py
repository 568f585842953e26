"""Answers as VTG-LLM's evaluation writes them.

What it generates is a JSON list of `{"vname", "generated_cap", "prompt"}`, with `query` and `id`
where a moment was asked for. What it reads of that is one JSON object: by video a list of
`{"timestamp": [start, end], "caption"}`, or by the query's id
`{"timestamp": [[start, end]], "query", "vid"}`.

Source: gyxxyg/VTG-LLM ce13f3e, `evaluate.py`, `utils/format_dvc.py` and `utils/format_tvg.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from groundserve.evaluation.activitynet.answers import LogTask
from groundserve.evaluation.spans import Window
from groundserve.families.vtgllm.answer import find_span, read_events
from groundserve.strict_json import is_finite_number, shown


class VtgAnswer(NamedTuple):
    """One answer, with times in seconds."""

    video: str
    events: Sequence[tuple[Window, str]]
    """Times and captions; none where none can be read."""
    query: str = ""
    """What was looked for; empty of captions."""
    id: str | None = None


def is_vtgllm(entry: Mapping[str, Any]) -> bool:
    """Tell whether an entry is one of VTG-LLM's files, as far as its form shows."""
    if "generated_cap" in entry:
        return True
    are_captions = all(isinstance(value, list) for value in entry.values())
    are_moments = all(isinstance(it, dict) and "timestamp" in it for it in entry.values())
    return bool(entry) and (are_captions or are_moments)


def read_vtgllm(entry: Mapping[str, Any], task: LogTask) -> Iterator[VtgAnswer]:
    """Give the answers to a task of one entry that `is_vtgllm`."""
    if "generated_cap" in entry:
        if ("query" in entry) == (task == "grounding"):
            yield _generated(entry, task)
        return
    for name, value in entry.items():
        if isinstance(value, list) and task == "captioning":
            yield _captions(name, value)
        elif isinstance(value, dict) and task == "grounding":
            yield _moment(name, value)


def _generated(entry: Mapping[str, Any], task: LogTask) -> VtgAnswer:
    video, text = entry.get("vname"), entry["generated_cap"]
    query, given = entry.get("query", ""), entry.get("id")
    if not isinstance(video, str) or not isinstance(text, str):
        raise ValueError(
            f"vname and generated_cap must be texts, got {shown(video)} and {shown(text)}"
        )
    if not isinstance(query, str):
        raise ValueError(f"query must be a text, got {shown(query)}")
    events: Sequence[tuple[Window, str]] = ()
    try:
        if task == "captioning":
            events = read_events(text)
        elif (span := find_span(text)) is not None:
            events = [(span, "")]
    except ValueError:  # a number at which the reference fails
        events = ()
    return VtgAnswer(PurePath(video).stem, events, query, None if given is None else str(given))


def _captions(video: str, value: list[Any]) -> VtgAnswer:
    events = []
    for one in value:
        if not isinstance(one, dict) or not isinstance(one.get("caption"), str):
            raise ValueError(f"events of {video} must be objects with a timestamp and a caption")
        events.append((_window(one.get("timestamp"), video), one["caption"]))
    return VtgAnswer(PurePath(video).stem, events)


def _moment(query_id: str, value: Mapping[str, Any]) -> VtgAnswer:
    video, query, windows = value.get("vid"), value.get("query"), value["timestamp"]
    if not isinstance(video, str) or not isinstance(query, str) or not isinstance(windows, list):
        raise ValueError(f"query {query_id} must have texts vid and query, and a list timestamp")
    events = [(_window(window, video), "") for window in windows[:1]]
    return VtgAnswer(PurePath(video).stem, events, query, query_id)


def _window(value: Any, video: str) -> Window:
    # Times of the reference's third form of captions stay texts.
    try:
        numbers = [float(one) if isinstance(one, str) else one for one in value]
    except (TypeError, ValueError):
        numbers = []
    if not isinstance(value, list) or len(numbers) != 2 or not all(map(is_finite_number, numbers)):
        raise ValueError(f"a timestamp of {video} must be [start, end], got {shown(value)}")
    return numbers[0], numbers[1]
