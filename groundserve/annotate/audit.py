"""A sample of annotations for people to judge in Label Studio, and what they say of it.

DIR/audit/tasks.json    a tenth of what is kept, and of what is dropped, to be imported
DIR/audit/config.xml    what Label Studio shows of a task
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from groundserve.annotate.outputs import Item
from groundserve.errors import InvalidRequestError
from groundserve.files import read_input
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
    usable = [item for item in items if item.note.state == "success"]
    usable.sort(key=lambda item: hashlib.sha256(item.id.encode()).digest())
    tasks = []
    for is_kept in (True, False):
        group = [item for item in usable if (not item.why_dropped) == is_kept]
        tasks += [_task(item, video_url) for item in group[: math.ceil(_SHARE * len(group))]]
    storage.write(f"{AUDIT}/config.xml", _CONFIG.encode())
    storage.write(f"{AUDIT}/tasks.json", json.dumps(tasks, ensure_ascii=False).encode())
    return len(tasks)


def read_audit(path: Path) -> dict[str, float | None]:
    """Read what Label Studio exported (JSON) of the tasks.

    A task that several people judged is right where most of them say so.

    Returns:
        Of what was kept, and of what was dropped, how many were judged and the share that is right;
        None: nobody judged.

    Raises:
        InvalidRequestError: It is no such file.
    """
    verdicts: dict[bool, list[bool]] = {True: [], False: []}
    try:
        for task in json.loads(read_input(path)):
            votes = [
                "right" in one["value"]["choices"]
                for answer in task["annotations"]
                for one in answer["result"]
                if one["type"] == "choices" and not answer.get("was_cancelled")
            ]
            if votes:
                verdicts[task["data"]["is_kept"]].append(2 * sum(votes) > len(votes))
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequestError(
            f"{path} is not what Label Studio exports (as JSON) of the tasks in DIR/audit: {error}"
        ) from error
    found: dict[str, float | None] = {}
    for is_kept, name in ((True, "kept"), (False, "dropped")):
        votes = verdicts[is_kept]
        found[f"num_{name}"] = len(votes)
        found[f"{name}_precision"] = sum(votes) / len(votes) if votes else None
    return found


def _task(item: Item, video_url: str) -> dict[str, Any]:
    note, fps = item.note, item.fps
    place = {"from_name": "frames", "to_name": "video", "type": "timelinelabels"}
    # Label Studio counts frames from 1.
    ranges = [
        {"start": round(start * fps) + 1, "end": round(end * fps)} for start, end in note.spans
    ]
    result = [{**place, "value": {"ranges": [it], "timelinelabels": ["helps"]}} for it in ranges]
    # Label Studio reads names in its own URLs quoted, and those of object stores as they are.
    is_store = "://" in video_url and not video_url.startswith("http")
    video = f"{video_url}{item.video if is_store else quote(item.video)}"
    told = {"id": item.id, "video": video, "fps": fps}
    told |= {"question": note.question, "answer": note.answer, "is_kept": not item.why_dropped}
    return {"data": told, "predictions": [{"result": result}]}
