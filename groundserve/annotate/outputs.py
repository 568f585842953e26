"""What is made of a run's rows: training data, spans, and figures.

DIR/annotations.json       what is kept, in the format of VideoITG-40K; stage 4 trains on it
DIR/annotations_all.json   the same with what the second grounder did not agree with
DIR/spans.jsonl            what is kept as stretches of time, a video a line, as TimeLens-100K
DIR/summary.json           counts, calls, tokens and cost
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from groundserve.annotate.annotation import Annotation
from groundserve.annotate.annotator import read_annotations
from groundserve.annotate.calls import read_calls
from groundserve.annotate.rules import Stage
from groundserve.batch.shards import scored_rows
from groundserve.data_record import CLIP_SECONDS
from groundserve.evaluation.qa.spending import Prices
from groundserve.storage import Storage

KEPT, ALL, SPANS, SUMMARY = (
    "annotations.json",
    "annotations_all.json",
    "spans.jsonl",
    "summary.json",
)
_COLUMNS = ("id", "video", "fps", "duration_seconds", "pts_seconds", "answer")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One annotation of a run."""

    id: str
    video: str
    """As the manifest spells it."""
    fps: float
    duration_seconds: float
    num_frames: int
    """T, at one a second."""
    note: Annotation
    why_dropped: str
    """"" where it is kept."""


def read_items(storage: Storage, *, min_agreement: float) -> Iterator[Item]:
    """Yield the annotations of all rows that have an answer, file by file."""
    for row in scored_rows(storage, _COLUMNS):
        row_id, video, fps, duration, times, text = (scalar.as_py() for scalar in row)
        notes = read_annotations(text)
        for number, note in enumerate(notes):
            yield Item(
                id=row_id if len(notes) == 1 else f"{row_id}-{number}",
                video=video,
                fps=fps,
                duration_seconds=duration,
                num_frames=len(times),
                note=note,
                why_dropped=note.why_dropped(min_agreement),
            )


def write_outputs(
    storage: Storage, *, min_agreement: float, prices: Mapping[Stage, Prices] | None
) -> dict[str, Any]:
    """Write the files, and return the summary."""
    items = sorted(
        read_items(storage, min_agreement=min_agreement), key=lambda item: (item.video, item.id)
    )
    kept = [item for item in items if not item.why_dropped]
    usable = [item for item in items if not item.why_dropped or _is_doubted(item)]
    storage.write(KEPT, _json([_record(item) for item in kept]))
    storage.write(ALL, _json([_record(item) for item in usable]))
    storage.write(SPANS, b"".join(_json(line) for line in _span_lines(kept)))
    summary = _summary(items, storage, prices)
    storage.write(SUMMARY, json.dumps(summary, indent=2).encode() + b"\n")
    return summary


def spending(storage: Storage, prices: Mapping[Stage, Prices] | None) -> dict[str, Any]:
    """Return calls, tokens and cost of a run by stage, each call counted once."""
    stages: dict[str, Counter[str]] = defaultdict(Counter)
    states: Counter[str] = Counter()
    for call in read_calls(storage):
        counts = stages[call.stage]
        counts["calls"] += 1
        counts["pictures"] += call.pictures
        counts["prompt_tokens"] += call.prompt_tokens or 0
        counts["completion_tokens"] += call.completion_tokens or 0
        counts["calls_without_usage"] += call.prompt_tokens is None
        counts["repairs"] += call.is_repair
        states[call.state] += 1
    total = sum(stages.values(), Counter())
    return {
        **{name: total[name] for name in ("calls", "prompt_tokens", "completion_tokens")},
        "calls_without_usage": total["calls_without_usage"],
        "call_states": dict(sorted(states.items())),
        "cost": None if prices is None else cost_of(stages, prices),
        "stages": {stage: dict(counts) for stage, counts in sorted(stages.items())},
    }


def cost_of(stages: Mapping[Any, Mapping[str, float]], prices: Mapping[Stage, Prices]) -> float:
    """Return what the tokens of all stages cost."""
    return sum(
        (
            counts["prompt_tokens"] * prices[stage].prompt
            + counts["completion_tokens"] * prices[stage].completion
        )
        / 1_000_000
        for stage, counts in stages.items()
    )


def _record(item: Item) -> dict[str, Any]:
    note = item.note
    return {
        "id": item.id,
        "video": item.video,
        "question": f"<image>\n{note.question}",
        "answer": note.answer,
        "frame_num": note.frames,
        "clip_num": sorted({frame // CLIP_SECONDS for frame in note.frames}),
        "motion": "Yes" if note.is_motion else "No",
        "existence": "Yes" if note.existence else "No",
        "type": note.type,
        "duration": round(item.duration_seconds, 3),
    }


def _span_lines(items: Sequence[Item]) -> Iterator[dict[str, Any]]:
    videos: dict[str, list[Item]] = {}
    for item in items:
        videos.setdefault(item.video, []).append(item)
    for video, members in videos.items():
        yield {
            "source": "groundserve",
            "video_path": video,
            "duration": round(members[0].duration_seconds, 3),
            "events": [
                {"query": item.note.question, "span": [list(span) for span in item.note.spans]}
                for item in members
                if item.note.spans
            ],
        }


def _summary(
    items: Sequence[Item], storage: Storage, prices: Mapping[Stage, Prices] | None
) -> dict[str, Any]:
    seconds = {item.video: item.duration_seconds for item in items}
    hours = sum(seconds.values()) / 3600
    spent = spending(storage, prices)
    agreements = [one.note.agreement for one in items if one.note.agreement is not None]
    reasons = Counter(item.why_dropped.partition(":")[0] for item in items if item.why_dropped)
    by_agreement = sum(count for reason, count in reasons.items() if reason.startswith("agreement"))
    told = {reason: n for reason, n in reasons.items() if not reason.startswith("agreement")}
    return {
        "annotations": len(items),
        "kept": sum(not item.why_dropped for item in items),
        "states": dict(Counter(item.note.state for item in items)),
        "dropped": told | ({"too little agreement": by_agreement} if by_agreement else {}),
        "types": dict(Counter(item.note.type for item in items if item.note.type)),
        "mean_agreement": sum(agreements) / len(agreements) if agreements else None,
        "videos": len(seconds),
        "video_hours": hours,
        **spent,
        "tokens_per_video_hour": (
            (spent["prompt_tokens"] + spent["completion_tokens"]) / hours if hours else None
        ),
        "cost_per_video_hour": (
            spent["cost"] / hours if hours and spent["cost"] is not None else None
        ),
    }


def _is_doubted(item: Item) -> bool:
    """Whether an annotation is dropped for want of agreement alone."""
    return item.note.state == "success" and not item.note.dropped


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"
