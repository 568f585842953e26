"""What a run will take, before a model is asked: from prompts' lengths, or from a recorded run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from groundserve.annotate.outputs import cost_of, read_items, spending
from groundserve.annotate.rules import Stage
from groundserve.annotate.settings import Settings
from groundserve.batch.fetch import FetchError, local_file
from groundserve.batch.row import BadRow, Row
from groundserve.data_record import CLIP_SECONDS
from groundserve.errors import GroundserveError, InvalidRequestError
from groundserve.evaluation.qa.spending import Prices
from groundserve.evaluation.scored_records import counted_frames
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoSource
from groundserve.runtime.deadline import Deadline
from groundserve.storage import Storage

_COUNTS = ("calls", "prompt_tokens", "completion_tokens")
_CHARACTERS_PER_TOKEN = 4
_QUESTION_TOKENS = 40
"""Of a question with its answer."""
_PICTURE_TOKENS = 85
"""Of a picture of low detail, as OpenAI counts it."""
_CANDIDATE_SHARE = 0.25
"""Of a video's frames, that the last stage judges."""
_REPLY_TOKENS: Mapping[Stage, int] = {
    "propose": 400,
    "phrase": 12,
    "caption": 60,
    "retrieve": 60,
    "type": 8,
    "motion": 6,
    "existence": 6,
    "motion_clips": 60,
    "localise": 25,  # of each frame
}


class Rate(NamedTuple):
    """How much of something there is."""

    per_item: float
    per_frame: float
    """Of a video at one frame a second, for each of its items."""


Rates = dict[Stage, dict[str, Rate]]
"""Of calls, prompt tokens and completion tokens, by stage."""


@dataclass(kw_only=True)
class Amount:
    """What is to be annotated."""

    rows: int = 0
    proposing: int = 0
    """Rows without a question."""
    items: float = 0.0
    frames: float = 0.0
    """Of all items' videos, so that a video counts for each of its questions."""
    video_seconds: float = 0.0
    """Of all videos, each counted once."""
    unreadable: int = 0
    """Rows that are broken, or whose video is."""


def measure(rows: Iterable[Row | BadRow], *, questions_per_proposal: float) -> Amount:
    """Open each video once, decoding nothing, and count."""
    amount, limits = Amount(), Limits()
    known: dict[str, tuple[int, float] | None] = {}
    with MediaWorkers(limits=limits) as workers:
        for row in rows:
            amount.rows += 1
            found = None
            if isinstance(row, Row):
                if row.place not in known:
                    known[row.place] = _facts(row.place, workers, limits)
                    amount.video_seconds += (known[row.place] or (0, 0.0))[1]
                found = known[row.place]
            if found is None:
                amount.unreadable += 1
                continue
            proposes = isinstance(row, Row) and not row.query
            number = questions_per_proposal if proposes else 1.0
            amount.proposing += proposes
            amount.items += number
            amount.frames += number * found[0]
    return amount


def default_rates(settings: Settings) -> Rates:
    """Guess by the prompts' lengths, at four characters a token."""
    rules = settings.rules
    stages: list[Stage] = ["phrase", "caption", "retrieve", "existence", "localise"]
    stages.append("motion" if rules.choice == "script" else "type")
    per_call = 1 / rules.frames_per_call
    rates: Rates = {}
    for stage in stages:
        prompt = len(settings.prompts.texts[stage]) / _CHARACTERS_PER_TOKEN + _QUESTION_TOKENS
        reply = float(_REPLY_TOKENS[stage])
        calls, tokens, replies = Rate(1, 0), Rate(prompt, 0), Rate(reply, 0)
        if stage == "caption":
            calls, replies = Rate(0, 1 / CLIP_SECONDS), Rate(0, reply / CLIP_SECONDS)
            tokens = Rate(0, prompt / CLIP_SECONDS + _PICTURE_TOKENS)
        elif stage == "retrieve":
            tokens = Rate(prompt, (_REPLY_TOKENS["caption"] + 8) / CLIP_SECONDS)
        elif stage == "localise":
            share = _CANDIDATE_SHARE
            calls, replies = Rate(0, share * per_call), Rate(0, share * reply)
            tokens = Rate(0, share * (prompt * per_call + _PICTURE_TOKENS + 4))
        rates[stage] = dict(zip(_COUNTS, (calls, tokens, replies), strict=True))
    return rates


def recorded_rates(storage: Storage) -> tuple[Rates, float]:
    """Return the rates of a run that was made, and its annotations a row.

    Raises:
        InvalidRequestError: It has no annotation.
    """
    items = list(read_items(storage, min_agreement=0.0))
    if not items:
        raise InvalidRequestError(f"{storage.place} has no annotations to estimate by")
    frames = sum(item.num_frames for item in items)
    rates: Rates = {}
    stages: dict[Stage, dict[str, float]] = spending(storage, None)["stages"]
    for stage, counts in stages.items():
        rates[stage] = {}
        for name in _COUNTS:
            grows = stage in ("caption", "localise") or (stage == "retrieve" and name != "calls")
            count = counts.get(name, 0)
            rates[stage][name] = Rate(0, count / frames) if grows else Rate(count / len(items), 0)
    rows = len({item.id.rpartition("-")[0] or item.id for item in items})
    return rates, len(items) / rows


def estimate(
    amount: Amount, rates: Rates, settings: Settings, prices: Mapping[Stage, Prices] | None
) -> dict[str, Any]:
    """Return calls, tokens and cost."""
    stages: dict[Stage, dict[str, float]] = {
        stage: {
            name: rate.per_item * amount.items + rate.per_frame * amount.frames
            for name, rate in counts.items()
        }
        for stage, counts in rates.items()
    }
    if amount.proposing and "propose" not in stages:
        pictures = settings.rules.proposal_frames * _PICTURE_TOKENS
        text = len(settings.prompts.texts["propose"]) / _CHARACTERS_PER_TOKEN
        each = (1, text + pictures, _REPLY_TOKENS["propose"])
        values = (amount.proposing * count for count in each)
        stages["propose"] = dict(zip(_COUNTS, values, strict=True))
    total = {name: round(sum(one[name] for one in stages.values())) for name in _COUNTS}
    hours = amount.video_seconds / 3600
    cost = None if prices is None else cost_of(stages, prices)
    return {
        "rows": amount.rows,
        "unreadable": amount.unreadable,
        "annotations": round(amount.items),
        "video_hours": hours,
        **total,
        "cost": cost,
        "cost_per_video_hour": cost / hours if cost is not None and hours else None,
        "stages": {
            stage: {name: round(value) for name, value in counts.items()}
            for stage, counts in stages.items()
        },
    }


def _facts(place: str, workers: MediaWorkers, limits: Limits) -> tuple[int, float] | None:
    """Return T and the seconds of a video; None where it cannot be read."""
    deadline = Deadline.after(limits.max_request_seconds)
    try:
        with (
            local_file(place, limits=limits, deadline=deadline) as path,
            VideoSource.from_path(path, limits=limits) as source,
            workers.open(source, deadline=deadline) as video,
        ):
            index = video.index
    except (FetchError, GroundserveError):
        return None
    frames = counted_frames(index.num_source_frames, index.average_fps)
    return len(frames), float(index.duration_seconds)
