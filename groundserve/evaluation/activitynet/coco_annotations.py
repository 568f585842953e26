"""Annotations of VTG-LLM, `{"annotations": [{"image_id", "caption", "id", ...}]}`.

An entry of dense captions has `segments`, `duration` and all sentences in one text: `pure_cap`,
where ". " parts them, or `caption`, where each full stop ends one and pieces of up to five
characters are none. An entry of a moment has its sentence in `caption` and its `timestamp`.

Source: gyxxyg/VTG-LLM ce13f3e, `metrics/dvc/eval_dvc.py` and `metrics/tvg/eval_tvg.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from groundserve.errors import InvalidRequestError
from groundserve.strict_json import is_finite_number, shown

_SHORTEST_SENTENCE = 6


def from_coco(entries: Sequence[Any], where: str) -> dict[str, Any]:
    """Return them as ActivityNet Captions has them, by the name of the video without its ending.

    An entry of a moment need not tell a duration. Then it is the latest end of its video's moments,
    as if the video ended there: no answer in seconds depends on it, one in percent does.
    """
    videos: dict[str, Any] = {}
    for number, entry in enumerate(entries):
        try:
            _add(videos, entry)
        except ValueError as error:
            raise InvalidRequestError(f"{where}, annotation {number}: {error}") from error
    return videos


def _add(videos: dict[str, Any], entry: Any) -> None:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("image_id"), str):
        raise ValueError("must be an object with a text image_id")
    texts = {name: entry[name] for name in ("caption", "pure_cap") if name in entry}
    if not texts or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("must have a text caption")
    video = videos.setdefault(
        PurePath(entry["image_id"]).stem,
        {"duration": 0, "timestamps": [], "sentences": [], "ids": []},
    )
    if "segments" in entry:
        if video["timestamps"]:
            raise ValueError(f"the video {shown(entry['image_id'])} is given twice")
        windows, sentences = entry["segments"], _sentences(texts)
        ids = []
    else:
        windows, sentences, ids = [entry.get("timestamp")], [entry["caption"]], [entry.get("id")]
    if not isinstance(windows, list) or not all(map(_is_window, windows)):
        raise ValueError("segments, or timestamp, must be [start, end] in seconds")
    video["timestamps"] += windows
    video["sentences"] += sentences
    video["ids"] += map(str, ids)
    ends = [end for _, end in windows]
    video["duration"] = entry.get("duration", max([video["duration"], *ends]))


def _sentences(texts: Mapping[str, str]) -> list[str]:
    if "pure_cap" in texts:
        pieces = texts["pure_cap"].split(". ")
    else:
        pieces = [
            piece.strip(" ")
            for piece in texts["caption"].split(".")
            if len(piece) >= _SHORTEST_SENTENCE
        ]
    return [f"{piece}." for piece in pieces]


def _is_window(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_finite_number, value))
