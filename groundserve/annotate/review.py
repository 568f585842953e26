"""Pages to look at a run with: each annotation's clips, captions, frames and reasons.

DIR/review/0001.html ...    they need nothing else, and fetch nothing
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

from groundserve.annotate.outputs import Item
from groundserve.batch.report import page_environment
from groundserve.storage import Storage

REVIEW = "review"
_ITEMS_EACH = 100


def write_review(storage: Storage, items: Iterable[Item]) -> None:
    """Write the pages anew."""
    storage.delete(REVIEW)
    text = Path(__file__).with_name("review.html").read_text("utf-8")
    template, left = page_environment().from_string(text), iter(items)
    some = list(itertools.islice(left, _ITEMS_EACH))
    for number in itertools.count(1):
        rest = list(itertools.islice(left, _ITEMS_EACH))
        page = template.render(place=storage.place, items=some, number=number, has_next=bool(rest))
        storage.write(f"{REVIEW}/{number:04d}.html", page.encode("utf-8"))
        if not rest:
            return
        some = rest
