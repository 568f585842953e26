"""Answer files of VTG-LLM's evaluation: what it generated, and what it read of that.

What is generated is a JSON list of `{"vname", "generated_cap", "prompt"}`, with `query` and `id`
where a moment was asked for. What is read of it is one JSON object: by video a list of
`{"timestamp": [start, end], "caption"}`, or by the query's id
`{"timestamp": [[start, end]], "query", "vid"}`.

Source: gyxxyg/VTG-LLM ce13f3e, `evaluate.py`, `utils/format_dvc.py` and `utils/format_tvg.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from groundserve.evaluation.activitynet.answers import LogTask
from groundserve.evaluation.spans import Window
from groundserve.families.vtgllm.answer import find_span, read_events
from groundserve.strict_json import is_finite_number, shown


@dataclass(frozen=True, kw_only=True)
class VtgAnswer:
    """One answer, with times in seconds."""

    video: str
    query: str = ""
    """What was looked for; empty of captions."""
    id: str | None = None
    events: tuple[tuple[Window, str], ...]
    """Times and captions; none where none can be read."""


def is_vtgllm(entry: Mapping[str, Any]) -> bool:
    """Tell whether an entry is one of VTG-LLM's files, as far as its form shows."""
    return "generated_cap" in entry or (
        bool(entry)
        and (
            all(isinstance(value, list) for value in entry.values())
            or all(isinstance(value, dict) and "timestamp" in value for value in entry.values())
        )
    )


def read_vtgllm(entry: Mapping[str, Any], task: LogTask) -> Iterator[VtgAnswer]:
    """Give the answers to a task of one entry that `is_vtgllm`."""
    if "generated_cap" in entry:
        if ("query" in entry) == (task == "grounding"):
            yield _generated(entry, task)
        return
    for name, value in entry.items():
        if isinstance(value, list) == (task == "captioning"):
            yield _captions(name, value) if isinstance(value, list) else _moment(name, value)


def _generated(entry: Mapping[str, Any], task: LogTask) -> VtgAnswer:
    video, text = entry.get("vname"), entry["generated_cap"]
    if not isinstance(video, str) or not isinstance(text, str):
        raise ValueError(
            f"vname and generated_cap must be texts, got {shown(video)} and {shown(text)}"
        )
    events: tuple[tuple[Window, str], ...]
    try:
        if task == "captioning":
            events = tuple(read_events(text))
        else:
            span = find_span(text)
            events = () if span is None else ((span, ""),)
    except ValueError:  # a number at which the reference fails
        events = ()
    query, given = entry.get("query", ""), entry.get("id")
    if not isinstance(query, str):
        raise ValueError(f"query must be a text, got {shown(query)}")
    return VtgAnswer(
        video=PurePath(video).stem,
        query=query,
        id=None if given is None else str(given),
        events=events,
    )


def _captions(video: str, value: list[Any]) -> VtgAnswer:
    events = []
    for one in value:
        if not isinstance(one, dict) or not isinstance(one.get("caption"), str):
            raise ValueError(f"events of {video} must be objects with a timestamp and a caption")
        events.append((_window(one.get("timestamp"), video), one["caption"]))
    return VtgAnswer(video=PurePath(video).stem, events=tuple(events))


def _moment(query_id: str, value: Mapping[str, Any]) -> VtgAnswer:
    video, query, windows = value.get("vid"), value.get("query"), value["timestamp"]
    if not isinstance(video, str) or not isinstance(query, str) or not isinstance(windows, list):
        raise ValueError(f"query {query_id} must have texts vid and query, and a list timestamp")
    return VtgAnswer(
        video=PurePath(video).stem,
        query=query,
        id=query_id,
        events=tuple((_window(window, video), "") for window in windows[:1]),
    )


def _window(value: Any, video: str) -> Window:
    # Times of the reference's third form of captions stay texts.
    numbers = [_number(one) for one in value] if isinstance(value, list) else []
    if len(numbers) != 2 or not all(map(is_finite_number, numbers)):
        raise ValueError(f"a timestamp of {video} must be [start, end], got {shown(value)}")
    return numbers[0], numbers[1]


def _number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return None
