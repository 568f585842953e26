"""Times as VTG-LLM spells them: four digits, a point and one more, each a token of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable

TIME_TOKENS = (
    *("<TIME_ZERO>", "<TIME_ONE>", "<TIME_TWO>", "<TIME_THREE>", "<TIME_FOUR>"),
    *("<TIME_FIVE>", "<TIME_SIX>", "<TIME_SEVEN>", "<TIME_EIGHT>", "<TIME_NINE>"),
    "<TIME_DOT>",
)
"""Tokens of the digits 0 to 9, and of the point."""

LENGTH = 6
"""Tokens of a time."""

_CHARACTERS = "0123456789."

# A number with spaces between its digits, and perhaps around its points.
_SPACED = re.compile(r"\d[\d\s]*(\.[\s\d]*\d)*")


def spell_places(number: str) -> list[int]:
    """Return the places in `TIME_TOKENS` that spell seconds as printed, such as "12.5".

    Always six: zeros are put in front, and what is too long is cut, of 10,000 seconds on the digit
    behind the point.

    Source: gyxxyg/VTG-LLM ce13f3e, `vtgllm/conversation/conversation_video_batch.py`.
    """
    whole, _, tenths = number.partition(".")
    return [_CHARACTERS.index(one) for one in f"{whole:0>4}.{tenths or '0'}"[:LENGTH]]


def time_sentence(seconds: Iterable[float], *, in_tokens: bool) -> str:
    """Return what the prompt says of the frames, up to the last one's time.

    Source: gyxxyg/VTG-LLM ce13f3e, `vtgllm/processors/video_processor.py::load_video`.
    """
    numbers = [f"{time:.1f}" for time in seconds]
    times = [_in_tokens(number) for number in numbers] if in_tokens else numbers
    return f"The video contains {len(times)} frames sampled at {', '.join(times)}"


def read_spelled(text: str) -> str:
    """Return an answer with its times as numbers.

    As the reference reads it, other numbers lose the spaces behind them, too: "2 eggs" becomes
    "2eggs".

    Source: gyxxyg/VTG-LLM ce13f3e, `utils/format_tvg.py`.
    """
    for token, character in zip(TIME_TOKENS, _CHARACTERS, strict=True):
        text = text.replace(token, character)
    return _SPACED.sub(lambda number: number[0].replace(" ", ""), text)


def _in_tokens(number: str) -> str:
    return "".join(TIME_TOKENS[place] for place in spell_places(number))
