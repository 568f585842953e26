"""What is made of a run's rows: training data, spans, and figures.

DIR/annotations.json       what is kept, in the format of VideoITG-40K; stage 4 trains on it
DIR/annotations_all.json   the same with what the second grounder did not agree with
DIR/spans.jsonl            what is kept as stretches of time, a video a line, as TimeLens-100K
DIR/summary.json           counts, calls, tokens and cost
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
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
COUNTS = ("calls", "prompt_tokens", "completion_tokens")
_COLUMNS = ("id", "video", "query", "fps", "duration_seconds", "pts_seconds", "answer")


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
    num_frames: int
    """T, at one a second."""
    note: Annotation
    why_dropped: str
    """"" where it is kept."""


def read_items(storage: Storage, *, min_agreement: float) -> Iterator[Item]:
    """Yield the annotations of all rows that have an answer, file by file."""
    for scalars in scored_rows(storage, _COLUMNS):
        row, video, query, fps, duration, times, text = (scalar.as_py() for scalar in scalars)
        for number, note in enumerate(read_annotations(text)):
            yield Item(
                id=row if query else f"{row}-{number}",
                video=video,
                row=row,
                fps=fps,
                duration_seconds=duration,
                num_frames=len(times),
                note=note,
                why_dropped=note.why_dropped(min_agreement),
            )


def write_outputs(
    storage: Storage, *, min_agreement: float, prices: Prices | None
) -> dict[str, Any]:
    """Write the files, and return the summary."""
    found = read_items(storage, min_agreement=min_agreement)
    items = sorted(found, key=lambda item: (item.video, item.id))
    kept = [item for item in items if not item.why_dropped]
    storage.write(KEPT, _json([_record(item) for item in kept]))
    storage.write(ALL, _json([_record(item) for item in items if not item.note.dropped]))
    videos: dict[str, list[Item]] = {}
    for item in kept:
        videos.setdefault(item.video, []).append(item)
    storage.write(SPANS, b"".join(_json(_spans(video, of)) for video, of in videos.items()))
    hours = sum({item.video: item.duration_seconds for item in items}.values()) / 3600
    stages = read_spending(storage)
    total = {name: sum(counts[name] for counts in stages.values()) for name in COUNTS}
    cost = cost_of(total, prices)
    agreements = [one.note.agreement for one in items if one.note.agreement is not None]
    reasons = (item.note.dropped.partition(":")[0] or "disagreed" for item in items)
    dropped = Counter(
        reason for reason, item in zip(reasons, items, strict=True) if item.why_dropped
    )
    summary = {
        "annotations": len(items),
        "kept": len(kept),
        "states": dict(Counter(item.note.state for item in items)),
        "dropped": dict(dropped),
        "mean_agreement": sum(agreements) / len(agreements) if agreements else None,
        "video_hours": hours,
        **total,
        "cost": cost,
        "cost_per_video_hour": None if cost is None or not hours else cost / hours,
        "stages": {stage: dict(counts) for stage, counts in sorted(stages.items())},
    }
    storage.write(SUMMARY, json.dumps(summary, indent=2).encode() + b"\n")
    return summary


def read_spending(storage: Storage) -> dict[str, Counter[str]]:
    """Return calls and tokens of a run by stage, each call counted once."""
    stages: dict[str, Counter[str]] = defaultdict(Counter)
    for call, usage in read_calls(storage):
        stages[call.stage].update(
            calls=1,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            without_usage=call.usage is None,
            repairs=call.is_repair,
            retries=call.retries,
            **{call.state: 1},
        )
    return stages


def cost_of(total: dict[str, int], prices: Prices | None) -> float | None:
    """Return what tokens cost; None without prices."""
    tokens = {name: total[name] for name in COUNTS[1:]}
    return None if prices is None else prices.cost(**tokens)


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
