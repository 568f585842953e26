"""How a reply is read: the first letter, as the reference's harness has it, and refusals."""

from __future__ import annotations

import re
from dataclasses import dataclass

from groundserve.evaluation.qa.question import BENCHMARKS, Layout, Question

_COMMON = ("The best answer is", "The correct answer is", "The answer is", "The answer")
_FUSED = ("The best option isThe correct option is", "Best answer:Best option:")
"""Two commas are missing there, so neither of the four texts is taken away: "Best option: (C)" is
read as B."""
_SEPARATE = ("The best option is", "The correct option is", "Best answer:", "Best option:")
_PREFIXES: dict[Layout, tuple[str, ...]] = {
    "videomme": _COMMON + _FUSED,
    "mlvu": _COMMON + _FUSED,
    "cgbench": _COMMON + _FUSED,
    "longvideobench": _COMMON + _SEPARATE,
}
_REFUSAL = re.compile(
    r"\s*(?:i['\u2019]?m|i am|we['\u2019]re|we are)\s+(?:very\s+)?(?:sorry|unable|not able)\b"
    r"|\s*(?:sorry|unfortunately)\s*,?\s+(?:but\s+)?(?:i|we)\b"
    r"|\s*(?:i|we)\s+(?:can['\u2019]?t|cannot|won['\u2019]?t)\b"
    r"|\s*as an ai\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens of one request, as the endpoint counts them."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the Video-LLM said."""

    text: str
    is_refused: bool
    """Whether the endpoint says that the model, or its filter, refused."""
    finish_reason: str | None
    usage: Usage | None
    """None where the endpoint does not say."""
    retries: tuple[str, ...] = ()
    """What was wrong with each earlier try: "rate_limited", "server_error" or
    "connection"."""


def first_letter(reply: str, layout: Layout) -> str | None:
    """Return the first letter of a reply that may name an option; None where there is none.

    It is any such letter, also inside a word: "Cannot tell" is C, "A cat (D)" is A, and "I think
    B" is I in CG-Bench, whose letters end with N. It may be one that the question does not have.

    Source: NVlabs/VideoITG fab8b54,
    `lmms_eval/tasks/videomme/utils.py::extract_characters_regex` (in mlvu and cgbench alike) and
    `lmms_eval/tasks/longvideobench/utils.py::parse_multi_choice_response`.
    """
    for prefix in _PREFIXES[layout]:
        reply = reply.replace(prefix, "")
    found = re.search(f"[{BENCHMARKS[layout].letters}]", reply)
    return found[0] if found else None


def is_refusal(reply: str) -> bool:
    """Return whether a reply begins by saying that it is none.

    The reference takes a letter out of such a reply too ("As an AI ..." is A); here it is wrong.
    """
    return _REFUSAL.match(reply) is not None


def is_right(question: Question, reply: str, *, is_refused: bool) -> bool | None:
    """Return whether a reply is right; None where the reference would guess, see `score_reply`."""
    score = score_reply(question, reply, is_refused=is_refused)
    return bool(score) if score in (0, 1) else None


def score_reply(question: Question, reply: str, *, is_refused: bool) -> float:
    """Return 1 for the right letter and 0 for another, for none and for a refusal.

    Where the reference replaces a reply without a letter by a random choice (LongVideoBench), it is
    what that scores on average, so that no figure depends on a draw.
    """
    if is_refused or is_refusal(reply):
        return 0.0
    letter = first_letter(reply, question.layout)
    if letter is None and BENCHMARKS[question.layout].guesses and question.num_choices:
        return 1 / question.num_choices
    return float(letter == question.answer)
