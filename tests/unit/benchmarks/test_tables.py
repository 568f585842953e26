"""The tables of the pages are those of the committed results."""

import pytest

from benchmarks.tables import PAGES, RESULTS, draw


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_drawn(page):
    text = page.read_text("utf-8")
    assert draw(text, RESULTS) == text, "draw them anew with: python -m benchmarks.tables"
