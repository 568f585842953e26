"""What a run will take, before a model is asked: by what another one took."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from groundserve.annotate.outputs import COUNTS, TOKENS, read_items, read_spending
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


def estimate_run(rows: Iterable[Row | BadRow], recorded: Storage, prices: Prices) -> dict[str, Any]:
    """Return calls, tokens and cost of annotating rows; each video is opened, none decoded.

    Args:
        rows: What is to be annotated.
        recorded: A run of the same contract about a few such videos.
        prices: Of tokens.

    Raises:
        InvalidRequestError: The recorded run has no annotation.
    """
    items = read_items(recorded, min_agreement=0.0)
    if not items:
        raise InvalidRequestError(f"{recorded.place} has no annotation to estimate by")
    before = len(items), sum(item.duration_seconds for item in items)
    found = _lengths(rows)
    # A row without a question gives as many as one of the run before.
    each = len(items) / len({item.row for item in items})
    numbers = [each if is_proposed else 1 for is_proposed, _ in found]
    now = sum(numbers), sum(it * seconds for it, (_, seconds) in zip(numbers, found, strict=True))
    total = dict.fromkeys(COUNTS, 0.0)
    for stage, counts in read_spending(recorded).items():
        for name in COUNTS:
            grows = stage in _GROWS or (stage == "retrieve" and name != "calls")
            share = now[grows] / before[grows]
            if stage == "propose":  # once a row that has no question
                share = sum(it for it, _ in found) / (counts["calls"] - counts["repairs"])
            total[name] += counts[name] * share
    rounded = {name: round(value) for name, value in total.items()}
    cost = prices.cost(**{name: rounded[name] for name in TOKENS})
    return {"rows": len(found), "annotations": round(now[0]), **rounded, "cost": cost}


def _lengths(rows: Iterable[Row | BadRow]) -> list[tuple[bool, float]]:
    """Return of each row whether it has no question, and its video's seconds, if it opens."""
    limits = Limits()
    with MediaWorkers(limits=limits) as workers:

        @cache
        def seconds(place: str) -> list[float]:
            deadline = Deadline.after(limits.max_request_seconds)
            try:
                with (
                    local_file(place, limits=limits, deadline=deadline) as path,
                    VideoSource.from_path(path, limits=limits) as source,
                    workers.open(source, deadline=deadline) as video,
                ):
                    return [float(video.index.duration_seconds)]
            except (FetchError, GroundserveError):
                return []

        good = (row for row in rows if isinstance(row, Row))
        return [(not row.query, it) for row in good for it in seconds(row.place)]
