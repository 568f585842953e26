"""The records of a run that cannot be read; where there are too many, it ends."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from groundserve.errors import InvalidRequestError
from train.data import Unreadable

logger = logging.getLogger(__name__)

MAX_ITEMS_IN_A_ROW = 64
"""A run ends after so many items, or all there are, without a readable one between them."""
MIN_ITEMS = 512
"""Items tried before their unreadable share counts: of a set that loses 3%, fewer than one run in
100 is stopped by chance at a bound of 5% (simulated; with 256 it is one in 20). A set that has
fewer counts when all of them were tried: then the share is known."""
_NUM_EXAMPLES = 3


class UnreadableRecords:
    """Distinct unreadable records; an earlier part of the run found those that are known."""

    def __init__(self, known: Iterable[tuple[int, str]], *, num_items: int, speaks: bool) -> None:
        self.found = dict.fromkeys(known)
        """Item and source of each as keys, in the order they were found."""
        self._limit = min(MAX_ITEMS_IN_A_ROW, num_items)
        self._min_tried = min(MIN_ITEMS, num_items)
        # Not saved: a run that resumes counts from none again.
        self._items_in_a_row: set[int] = set()
        self._speaks = speaks

    def __len__(self) -> int:
        return len(self.found)

    def add(self, records: Iterable[Unreadable], *, any_read: bool) -> None:
        """Count those of a step, in all processes, of which any may have read something.

        Raises:
            InvalidRequestError: Nothing was readable for too long.
        """
        if any_read:
            self._items_in_a_row.clear()
        for record in records:
            key = (record.item, record.source)
            if key not in self.found and self._speaks:
                logger.warning("cannot read %s: %s", record.source, record.reason)
            # An item is met again in each epoch and counts once.
            self.found[key] = None
            if any_read:
                continue
            self._items_in_a_row.add(record.item)
            if len(self._items_in_a_row) >= self._limit:
                raise InvalidRequestError(
                    f"none of the last {self._limit} items could be read, at last "
                    f"{record.source}: {record.reason}; check data.records and data.media_root"
                )

    def excess(
        self, *, num_tried: int, max_share: float, checkpoint: Path
    ) -> InvalidRequestError | None:
        """Return why to end the run where too many of the items tried so far cannot be read."""
        # Items, not records: one file that is missing is one loss however many ask about it.
        num_lost = len({item for item, _ in self.found})
        if num_tried < self._min_tried or num_lost <= max_share * num_tried:
            return None
        examples = "; ".join(source for _, source in list(self.found)[-_NUM_EXAMPLES:])
        return InvalidRequestError(
            f"{num_lost} of {num_tried} items ({num_lost / num_tried:.1%}) could not be read, more "
            f"than data.max_unreadable_share = {max_share:g}; at last {examples}. Look for the "
            "reason with groundserve train check; then start anew, or accept the loss with a "
            f"larger share and --resume, which goes on from {checkpoint}"
        )
