"""What a run will take, before a model is asked: by what another one took."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from groundserve.annotate.outputs import COUNTS, cost_of, read_items, read_spending
from groundserve.batch.fetch import FetchError, local_file
from groundserve.batch.row import BadRow, Row
from groundserve.errors import GroundserveError, InvalidRequestError
from groundserve.evaluation.qa.spending import Prices
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoSource
from groundserve.runtime.deadline import Deadline
from groundserve.storage import Storage

_GROWS = ("caption", "localise")
"""Stages whose calls grow with the video; the tokens of `retrieve` do, too."""


def estimate_run(
    rows: Iterable[Row | BadRow], recorded: Storage, prices: Prices | None
) -> dict[str, Any]:
    """Return calls, tokens and cost of annotating rows; each video is opened, none decoded.

    Args:
        rows: What is to be annotated.
        recorded: A run of the same contract about a few such videos.
        prices: None: no cost.

    Raises:
        InvalidRequestError: The recorded run has no annotation.
    """
    items = list(read_items(recorded, min_agreement=0.0))
    if not items:
        raise InvalidRequestError(f"{recorded.place} has no annotation to estimate by")
    before = len(items), sum(item.duration_seconds for item in items)
    each = len(items) / len({item.row for item in items})
    found = list(_lengths(rows))
    # A row without a question gives as many as one of the run before.
    numbers = [1 if row.query else each for row, _ in found]
    seconds = sum(number * one for number, (_, one) in zip(numbers, found, strict=True))
    now = sum(numbers), seconds
    num_proposed = sum(not row.query for row, _ in found)
    total = dict.fromkeys(COUNTS, 0.0)
    for stage, counts in read_spending(recorded).items():
        for name in COUNTS:
            grows = stage in _GROWS or (stage == "retrieve" and name != "calls")
            share = now[grows] / before[grows]
            if stage == "propose":  # once a row that has no question
                share = num_proposed / (counts["calls"] - counts["repairs"])
            total[name] += counts[name] * share
    rounded = {name: round(value) for name, value in total.items()}
    return {
        "rows": len(found),
        "annotations": round(now[0]),
        "video_seconds_of_annotations": now[1],
        **rounded,
        "cost": cost_of(rounded, prices),
    }


def _lengths(rows: Iterable[Row | BadRow]) -> Iterator[tuple[Row, float]]:
    """Yield rows with the seconds of their video; those are left out that cannot be annotated."""
    limits = Limits()
    known: dict[str, float | None] = {}
    with MediaWorkers(limits=limits) as workers:
        for row in rows:
            if isinstance(row, BadRow):
                continue
            if row.place not in known:
                known[row.place] = _seconds(row.place, workers, limits)
            seconds = known[row.place]
            if seconds is not None:
                yield row, seconds


def _seconds(place: str, workers: MediaWorkers, limits: Limits) -> float | None:
    deadline = Deadline.after(limits.max_request_seconds)
    try:
        with (
            local_file(place, limits=limits, deadline=deadline) as path,
            VideoSource.from_path(path, limits=limits) as source,
            workers.open(source, deadline=deadline) as video,
        ):
            return float(video.index.duration_seconds)
    except (FetchError, GroundserveError):
        return None
