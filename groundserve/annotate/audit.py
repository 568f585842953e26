"""A sample of annotations for people to judge in Label Studio, and what they say of it.

DIR/audit/tasks.json    a tenth of what is kept, and of what is dropped, to be imported
DIR/audit/config.xml    what Label Studio shows of a task
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from groundserve.annotate.outputs import Item
from groundserve.errors import InvalidRequestError
from groundserve.files import read_input
from groundserve.records.agreement import time_iou
from groundserve.storage import Storage

AUDIT = "audit"
_SHARE = 0.1
_CONFIG = """<View>
  <Header value="$question"/><Text name="answer" value="$answer"/>
  <Video name="video" value="$video" frameRate="$fps"/>
  <TimelineLabels name="frames" toName="video"><Label value="helps"/></TimelineLabels>
  <Choices name="verdict" toName="video" required="true">
    <Choice value="right"/><Choice value="wrong"/>
  </Choices>
</View>
"""


def write_audit(storage: Storage, items: Iterable[Item], *, video_url: str) -> int:
    """Write the sample, the same for the same annotations; return how many it has.

    Args:
        storage: Of the run.
        items: All annotations; those are left out that a call without a usable reply ended.
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
        for _, task in sorted(group, key=lambda one: one[0])[: math.ceil(_SHARE * len(group))]
    ]
    storage.write(f"{AUDIT}/config.xml", _CONFIG.encode())
    storage.write(f"{AUDIT}/tasks.json", json.dumps(tasks, ensure_ascii=False).encode())
    return len(tasks)


def read_audit(path: Path) -> dict[str, float | None]:
    """Read what Label Studio exported (JSON) of the tasks.

    A task that several people judged is right where most of them say so.

    Returns:
        Of what was kept, and of what was dropped, how many were judged and the share that is right;
        and the mean IoU of spans with those that people drew. None: nobody judged, or drew.

    Raises:
        InvalidRequestError: It is no such file.
    """
    verdicts: dict[bool, list[bool]] = {True: [], False: []}
    overlaps: list[float] = []
    try:
        for task in json.loads(read_input(path)):
            data = task["data"]
            results = [
                (one["type"], one["value"])
                for answer in task["annotations"]
                if not answer.get("was_cancelled")
                for one in answer["result"]
            ]
            votes = ["right" in value["choices"] for kind, value in results if kind == "choices"]
            if votes:
                verdicts[data["is_kept"]].append(2 * sum(votes) > len(votes))
            drawn = [
                ((place["start"] - 1) / data["fps"], place["end"] / data["fps"])
                for kind, value in results
                if kind == "timelinelabels"
                for place in value["ranges"]
            ]
            overlap = time_iou([tuple(span) for span in data["spans"]], drawn) if drawn else None
            overlaps += [] if overlap is None else [overlap]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequestError(
            f"{path} is not what Label Studio exports (as JSON) of the tasks in DIR/audit: {error}"
        ) from error
    return {
        "num_kept": len(verdicts[True]),
        "num_dropped": len(verdicts[False]),
        "kept_precision": _mean(verdicts[True]),
        "dropped_precision": _mean(verdicts[False]),
        "mean_iou": _mean(overlaps),
    }


def _task(item: Item, video_url: str) -> dict[str, Any]:
    note, fps = item.note, item.fps
    spans: list[Mapping[str, Any]] = [
        {
            # Label Studio counts frames from 1.
            "ranges": [{"start": round(start * fps) + 1, "end": round(end * fps)}],
            "timelinelabels": ["helps"],
        }
        for start, end in note.spans
    ]
    is_store = "://" in video_url and not video_url.startswith("http")
    place = {"from_name": "frames", "to_name": "video", "type": "timelinelabels"}
    data = {
        "id": item.id,
        # Label Studio reads names in its own URLs quoted, and those of object stores as they are.
        "video": f"{video_url}{item.video if is_store else quote(item.video)}",
        "fps": fps,
        "question": note.question,
        "answer": note.answer,
        "spans": note.spans,
        "is_kept": not item.why_dropped,
    }
    return {"data": data, "predictions": [{"result": [{**place, "value": it} for it in spans]}]}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
