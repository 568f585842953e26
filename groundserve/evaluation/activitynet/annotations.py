"""What happens when in which video, in the JSON of ActivityNet Captions or of VTG-LLM.

VTG-LLM's is `{"annotations": [{"image_id", "caption", "id", ...}]}`. An entry of dense captions has
`segments`, `duration` and all sentences in one text: `pure_cap`, where ". " parts them, or
`caption`, where each full stop ends one and pieces of up to five characters are none. An entry of a
moment has its sentence in `caption` and its `timestamp`.

Source: gyxxyg/VTG-LLM ce13f3e, `metrics/dvc/eval_dvc.py` and `metrics/tvg/eval_tvg.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path, PurePath
from typing import Any

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.spans import Window
from groundserve.evaluation.videos import find_files
from groundserve.files import read_input
from groundserve.strict_json import is_finite_number, parse_object, shown

_SHORTEST_SENTENCE = 6
_VIDEO_SUFFIXES = (".webm", ".mkv", ".mp4")
"""In this order: of several files of one video the reference takes the first of these."""


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """What annotators wrote about one video."""

    duration_seconds: float
    """Above 0."""
    windows: tuple[Window, ...]
    """At least one; start and end of each event in seconds, as written: a few of the published ones
    end before they start."""
    sentences: tuple[str, ...]
    ids: tuple[str, ...] = ()
    """The number of each sentence, where the file has them."""


def read_annotations(path: str | PathLike[str]) -> dict[str, Annotation]:
    """Read `{video: {"duration", "timestamps": [[start, end], ...], "sentences": [...]}}`.

    A file with a list `annotations` is one of VTG-LLM's, `SPLIT.caption_coco_format.json`.
    """
    values = parse_object(read_input(path), str(path))
    if not values:
        raise InvalidRequestError(f"{path} holds no videos")
    if isinstance(values.get("annotations"), list):
        values = _from_coco(values["annotations"], str(path))
    annotations = {}
    for video, value in values.items():
        try:
            annotations[video] = _parse(value)
        except ValueError as error:
            raise InvalidRequestError(f"{path}, video {video}: {error}") from error
    return annotations


def find_videos(videos: Iterable[str], media_root: Path) -> dict[str, Path]:
    """Return the file of each video that is there; published sets have lost many of theirs."""
    found = find_files(videos, media_root, _VIDEO_SUFFIXES)
    if not found:
        raise InvalidRequestError(
            f"{media_root} has none of the annotated videos; they are looked for as "
            f"VIDEO{', VIDEO'.join(_VIDEO_SUFFIXES)}"
        )
    return found


def _parse(value: Any) -> Annotation:
    if not isinstance(value, Mapping):
        raise ValueError("must be an object with duration, timestamps and sentences")
    missing = sorted({"duration", "timestamps", "sentences"} - value.keys())
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    duration, windows, sentences = value["duration"], value["timestamps"], value["sentences"]
    if not is_finite_number(duration) or duration <= 0:
        raise ValueError("duration must be a number of seconds above 0")
    if not isinstance(windows, list) or not windows or not all(map(_is_window, windows)):
        raise ValueError("timestamps must be a list of at least one [start, end] in seconds")
    if not isinstance(sentences, list) or not all(isinstance(text, str) for text in sentences):
        raise ValueError("sentences must be a list of texts")
    if len(sentences) != len(windows):
        raise ValueError(
            f"timestamps and sentences must be as many, got {len(windows)} and {len(sentences)}"
        )
    return Annotation(
        duration_seconds=duration,
        windows=tuple((start, end) for start, end in windows),
        sentences=tuple(sentences),
        ids=tuple(value.get("ids", ())),
    )


def _is_window(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_finite_number, value))


def _from_coco(entries: Sequence[Any], where: str) -> dict[str, Any]:
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
        windows = entry["segments"]
        video["sentences"] += _sentences(texts)
    else:
        windows = [entry.get("timestamp")]
        video["sentences"].append(entry["caption"])
        video["ids"].append(str(entry.get("id")))
    if not isinstance(windows, list) or not all(map(_is_window, windows)):
        raise ValueError("segments, or timestamp, must be [start, end] in seconds")
    video["timestamps"] += windows
    ends = [end for _, end in windows]
    video["duration"] = entry.get("duration", max([video["duration"], *ends]))


def _sentences(texts: Mapping[str, str]) -> list[str]:
    if "pure_cap" in texts:
        pieces = texts["pure_cap"].split(". ")
    else:
        pieces = texts["caption"].split(".")
        pieces = [piece.strip(" ") for piece in pieces if len(piece) >= _SHORTEST_SENTENCE]
    return [f"{piece}." for piece in pieces]
