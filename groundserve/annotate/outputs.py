"""What is made of a run's rows: training data, spans, and figures.

DIR/annotations.json       what is kept, in the format of VideoITG-40K; stage 4 trains on it
DIR/annotations_all.json   the same with what the second grounder did not agree with
DIR/spans.jsonl            what is kept as stretches of time, a video a line, as TimeLens-100K
DIR/summary.json           counts, calls, tokens and cost
"""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from groundserve.annotate.annotation import Annotation
from groundserve.annotate.annotator import read_annotations
from groundserve.annotate.calls import read_calls
from groundserve.batch.shards import scored_rows
from groundserve.data_record import CLIP_SECONDS
from groundserve.evaluation.qa.spending import Prices
from groundserve.storage import Storage

KEPT, ALL = "annotations.json", "annotations_all.json"
SPANS, SUMMARY = "spans.jsonl", "summary.json"
TOKENS = ("prompt_tokens", "completion_tokens")
COUNTS = ("calls", *TOKENS)
_COLUMNS = ("id", "video", "query", "fps", "duration_seconds", "answer")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One annotation of a run."""

    id: str
    video: str
    """As the manifest spells it."""
    row: str
    """The id of its row, which has several annotations where questions were proposed."""
    fps: float
    duration_seconds: float
    note: Annotation
    why_dropped: str
    """"" where it is kept."""


def read_items(storage: Storage, *, min_agreement: float) -> list[Item]:
    """Return the annotations of all rows that have an answer, by video and id."""
    items = []
    for scalars in scored_rows(storage, _COLUMNS):
        row, video, query, fps, duration, text = (scalar.as_py() for scalar in scalars)
        for number, note in enumerate(read_annotations(text)):
            item = Item(
                id=row if query else f"{row}-{number}",
                video=video,
                row=row,
                fps=fps,
                duration_seconds=duration,
                note=note,
                why_dropped=note.why_dropped(min_agreement),
            )
            items.append(item)
    return sorted(items, key=lambda item: (item.video, item.id))


def write_outputs(storage: Storage, items: Sequence[Item], *, prices: Prices) -> dict[str, Any]:
    """Write the files, and return the summary."""
    kept = [item for item in items if not item.why_dropped]
    storage.write(KEPT, _json([_record(item) for item in kept]))
    storage.write(ALL, _json([_record(item) for item in items if not item.note.dropped]))
    videos = itertools.groupby(kept, key=lambda item: item.video)
    storage.write(SPANS, b"".join(_json(_spans(video, [*of])) for video, of in videos))
    hours = sum({item.video: item.duration_seconds for item in items}.values()) / 3600
    stages = read_spending(storage)
    total = {name: sum(counts[name] for counts in stages.values()) for name in COUNTS}
    cost = prices.cost(**{name: total[name] for name in TOKENS})
    agreements = [one.note.agreement for one in items if one.note.agreement is not None]
    dropped = (
        item.note.dropped.partition(":")[0] or "disagreed" for item in items if item.why_dropped
    )
    summary = {
        "annotations": len(items),
        "kept": len(kept),
        "states": dict(Counter(item.note.state for item in items)),
        "dropped": dict(Counter(dropped)),
        "mean_agreement": sum(agreements) / len(agreements) if agreements else None,
        "video_hours": hours,
        **total,
        "cost": cost,
        "cost_per_video_hour": cost / hours if hours else None,
        "stages": {stage: dict(counts) for stage, counts in sorted(stages.items())},
    }
    storage.write(SUMMARY, json.dumps(summary, indent=2).encode() + b"\n")
    return summary


def read_spending(storage: Storage) -> dict[str, Counter[str]]:
    """Return calls and tokens of a run by stage, each call counted once."""
    stages: dict[str, Counter[str]] = defaultdict(Counter)
    for call in read_calls(storage):
        tokens = call.usage or dict.fromkeys(TOKENS, 0)
        stages[call.stage].update(
            tokens,
            calls=1,
            without_usage=call.usage is None,
            repairs=call.is_repair,
            retries=call.retries,
            **{call.state: 1},
        )
    return stages


def _record(item: Item) -> dict[str, Any]:
    note = item.note
    return {
        "id": item.id,
        "video": item.video,
        "question": f"<image>\n{note.question}",
        "answer": note.answer,
        "frame_num": note.frames,
        "clip_num": sorted({frame // CLIP_SECONDS for frame in note.frames}),
        "motion": "Yes" if note.type in ("motion", "both") else "No",
        "existence": "Yes" if note.existence else "No",
        "type": note.type,
        "duration": round(item.duration_seconds, 3),
    }


def _spans(video: str, items: list[Item]) -> dict[str, Any]:
    notes = [item.note for item in items if item.note.spans]
    return {
        "source": "groundserve",
        "video_path": video,
        "duration": round(items[0].duration_seconds, 3),
        "events": [{"query": note.question, "span": note.spans} for note in notes],
    }


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"
