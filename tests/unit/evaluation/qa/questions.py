"""Questions for tests of what is done with them."""

from __future__ import annotations

from typing import Any

from groundserve.evaluation.qa.question import Question


def question(key: str = "0", **fields: Any) -> Question:
    """One of CG-Bench with three options, of which B is right."""
    values: dict[str, Any] = {
        "number": 0,
        "layout": "cgbench",
        "video": "v",
        "text": f"What is {key}?",
        "options": ("A. x", "B. y", "C. z"),
        "num_choices": 3,
        "answer": "B",
        "group": None,
    }
    return Question(key=key, **{**values, **fields})
