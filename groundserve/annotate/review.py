"""Pages to look at a run with: each annotation's clips, captions, frames and reasons.

DIR/review/0001.html ...    they need nothing else, and fetch nothing
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from groundserve.annotate.outputs import Item
from groundserve.batch.report import page_environment
from groundserve.storage import Storage

REVIEW = "review"
_ITEMS_EACH = 100


def write_review(storage: Storage, items: Sequence[Item]) -> None:
    """Write the pages anew."""
    storage.delete(REVIEW)
    text = Path(__file__).with_name("review.html").read_text("utf-8")
    template, num_pages = page_environment().from_string(text), -(-len(items) // _ITEMS_EACH)
    for number in range(1, num_pages + 1):
        some = items[(number - 1) * _ITEMS_EACH : number * _ITEMS_EACH]
        page = template.render(place=storage.place, items=some, number=number, num_pages=num_pages)
        storage.write(f"{REVIEW}/{number:04d}.html", page.encode())
