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


def write_review(storage: Storage, items: Iterable[Item]) -> str:
    """Write the pages anew; return the place of the first, "" where there is no annotation."""
    storage.delete(REVIEW)
    text = Path(__file__).with_name("review.html").read_text("utf-8")
    template = page_environment().from_string(text)
    left = iter(items)
    some = list(itertools.islice(left, _ITEMS_EACH))
    for number in itertools.count(1):
        if not some:
            break
        following = list(itertools.islice(left, _ITEMS_EACH))
        page = template.render(
            place=storage.place, items=some, number=number, is_last=not following
        )
        storage.write(f"{REVIEW}/{number:04d}.html", page.encode("utf-8"))
        some = following
    return f"{storage.place}/{REVIEW}/0001.html" if number > 1 else ""
