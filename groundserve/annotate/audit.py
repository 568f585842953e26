"""A sample of annotations for people to judge in Label Studio, and what they say of it.

DIR/audit/tasks.json    a tenth of what is kept, and of what is dropped, to be imported
DIR/audit/config.xml    what Label Studio shows of a task
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundserve.annotate.outputs import Item
from groundserve.errors import InvalidRequestError
from groundserve.files import read_input
from groundserve.storage import Storage

AUDIT = "audit"
SHARE = 0.1
"""Of the annotations."""
_CONFIG = """<View>
  <Header value="$question"/>
  <Text name="answer" value="$answer"/>
  <Video name="video" value="$video" frameRate="$fps"/>
  <TimelineLabels name="frames" toName="video"><Label value="helps"/></TimelineLabels>
  <Choices name="verdict" toName="video" required="true">
    <Choice value="right"/><Choice value="wrong"/>
  </Choices>
</View>
"""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What people say of the sample."""

    num_kept: int
    """Kept annotations that were judged."""
    num_dropped: int
    kept_precision: float | None
    """Share of them that are right; None where none was judged. So the next."""
    dropped_precision: float | None
    mean_iou: float | None
    """Of the spans with those that people drew, over what they drew any for."""


def write_audit(storage: Storage, items: Iterable[Item], *, video_url: str) -> int:
    """Write the sample, the same for the same annotations; return how many it has.

    Args:
        storage: Of the run.
        items: All that have an answer of every stage.
        video_url: What comes before a video's name in Label Studio.
    """
    groups: dict[bool, list[tuple[str, dict[str, Any]]]] = {True: [], False: []}
    for item in items:
        if item.note.state == "success":
            order = hashlib.sha256(item.id.encode()).hexdigest()
            groups[not item.why_dropped].append((order, _task(item, video_url)))
    tasks = [
        task
        for group in groups.values()
        for _, task in sorted(group, key=lambda one: one[0])[: math.ceil(SHARE * len(group))]
    ]
    storage.write(f"{AUDIT}/config.xml", _CONFIG.encode())
    storage.write(f"{AUDIT}/tasks.json", json.dumps(tasks, ensure_ascii=False).encode())
    return len(tasks)


def read_audit(path: Path) -> Judged:
    """Read what Label Studio exported (JSON) of the tasks.

    A task that several people judged is right where most of them say so.

    Raises:
        InvalidRequestError: It is no such file, or judges nothing.
    """
    verdicts: dict[bool, list[bool]] = {True: [], False: []}
    overlaps = []
    try:
        for task in json.loads(read_input(path)):
            data = task["data"]
            answers = [one["result"] for one in task["annotations"] if not one.get("was_cancelled")]
            votes = [vote for answer in answers for vote in _votes(answer)]
            if votes:
                verdicts[bool(data["is_kept"])].append(2 * sum(votes) > len(votes))
            drawn = [span for answer in answers for span in _drawn(answer, float(data["fps"]))]
            if drawn:
                overlaps.append(span_iou(data["spans"], drawn))
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequestError(
            f"{path} is not what Label Studio exports (as JSON) of the tasks in DIR/audit: {error}"
        ) from error
    if not any(verdicts.values()):
        raise InvalidRequestError(f"{path} has no task with a verdict")
    return Judged(
        num_kept=len(verdicts[True]),
        num_dropped=len(verdicts[False]),
        kept_precision=_mean(verdicts[True]),
        dropped_precision=_mean(verdicts[False]),
        mean_iou=_mean(overlaps),
    )


def span_iou(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> float:
    """Return the time that both of two sets of spans cover, over what either does; 1 of none."""
    edges = sorted({edge for span in (*first, *second) for edge in span})
    both = either = 0.0
    for start, end in itertools.pairwise(edges):
        inside = [any(a <= start and end <= b for a, b in spans) for spans in (first, second)]
        both += (end - start) * all(inside)
        either += (end - start) * any(inside)
    return both / either if either else 1.0


def _task(item: Item, video_url: str) -> dict[str, Any]:
    note = item.note
    result = [
        {
            "from_name": "frames",
            "to_name": "video",
            "type": "timelinelabels",
            "value": {
                # Label Studio counts frames from 1.
                "ranges": [{"start": round(start * item.fps) + 1, "end": round(end * item.fps)}],
                "timelinelabels": ["helps"],
            },
        }
        for start, end in note.spans
    ]
    data = {
        "id": item.id,
        "video": f"{video_url}{item.video}",
        "fps": item.fps,
        "question": note.question,
        "answer": note.answer,
        "spans": [list(span) for span in note.spans],
        "is_kept": not item.why_dropped,
    }
    return {"data": data, "predictions": [{"model_version": "groundserve", "result": result}]}


def _votes(answer: Sequence[Mapping[str, Any]]) -> list[bool]:
    return ["right" in one["value"]["choices"] for one in answer if one["type"] == "choices"]


def _drawn(answer: Sequence[Mapping[str, Any]], fps: float) -> list[tuple[float, float]]:
    return [
        ((place["start"] - 1) / fps, place["end"] / fps)
        for one in answer
        if one["type"] == "timelinelabels"
        for place in one["value"]["ranges"]
    ]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
