"""The page of keys is drawn from the code."""

from dataclasses import dataclass

import pytest

from scripts.training_keys import PAGE, draw_page, field_texts


def test_the_page_is_what_the_code_says():
    drawn = PAGE.read_text("utf-8") == draw_page()
    assert drawn, "draw it anew with: python -m scripts.training_keys"


def test_defaults_are_those_of_the_stages():
    assert "| `max_frames` | whole number | `64` / `64` / `256` / `1024` |" in draw_page()
    assert '| `parallelism` | `"none"`, `"ddp"`, `"fsdp2"`, `"hsdp"` | `"fsdp2"` |' in draw_page()


@dataclass
class Component:
    told: int
    """Told."""
    untold: int


def test_a_field_without_a_text_is_refused():
    with pytest.raises(ValueError, match=r"Component\.untold has no string under it"):
        field_texts(Component)
