"""A multiple-choice question about a video, and what the four benchmarks differ in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Layout = Literal["videomme", "mlvu", "longvideobench", "cgbench"]
"""Fields of a record, its prompt, and the reading of replies: by the reference's name of a task."""

Seconds = tuple[float, float]
"""Start and end of a stretch of a video."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What a layout fixes beside the fields of its records.

    Source: the tasks of NVlabs/VideoITG fab8b54, whose files `reading` and `replies` name.
    """

    title: str
    letters: str
    """The first of these in a reply is the answer."""
    max_tokens: int
    groups: tuple[str, ...] = ()
    """Groups that the paper's table has a column each of; none: one column for all questions."""
    guesses: bool = False
    """Whether a reply without a letter is replaced by a random choice."""


BENCHMARKS: dict[Layout, Benchmark] = {
    "videomme": Benchmark(
        title="Video-MME", letters="ABCD", max_tokens=16, groups=("short", "medium", "long")
    ),
    "mlvu": Benchmark(title="MLVU", letters="ABCD", max_tokens=16),
    "longvideobench": Benchmark(
        title="LongVideoBench", letters="ABCDE", max_tokens=32, guesses=True
    ),
    "cgbench": Benchmark(title="CG-Bench", letters="ABCDEFGHIJKLMN", max_tokens=16),
}


@dataclass(frozen=True, kw_only=True)
class Question:
    """One record."""

    key: str
    """Its own id, or its place in the file where it has none; each once in a set."""
    number: int
    """Place in the file, from 0: the `doc_id` of the reference's harness."""
    layout: Layout
    video: str
    """Path below the media root."""
    text: str
    """The question; with its options inside where the record has them there (MLVU)."""
    options: tuple[str, ...]
    """Lines below the question, each beginning with its letter; none where they are inside."""
    num_choices: int | None
    """Options to choose from; None where they are inside and cannot be counted."""
    answer: str
    """Letter of the right option."""
    group: str | None
    """Duration (Video-MME, LongVideoBench) or task (MLVU); None where the benchmark has none."""
    spans: tuple[Seconds, ...] = ()
    """Seconds that show what answers it (CG-Bench); none where nobody labelled them."""
