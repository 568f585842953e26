"""Times as Grounded-VideoLLM writes them, tokens that count 300ths of the video; its templates."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from groundserve.errors import InvalidRequestError
from groundserve.families.grounded_videollm.plan import Llm

NUM_STEPS = 300
"""Steps that a video is divided into, however long it is."""

GROUNDING_TOKEN = "<timestamp_grounding>"
"""Stands in a prompt whose answer is to say times."""

NEW_TOKENS = (*(f"<{step}>" for step in range(NUM_STEPS + 1)), GROUNDING_TOKEN)
"""What the model's vocabulary has beside the decoder's own, in the order of the ids."""

# `\d` is a digit of any script, which `float` reads.
_TOKEN = re.compile(r"<(\d+)>")
# A number is tried from its first digit alone: from each of them, time would grow with the square.
_WHOLE_SECONDS = re.compile(r"(?<!\d)(\d+) seconds")
_SECONDS = re.compile(r"(?<!\d)(\d+(?:\.\d+)?) seconds?\b")


@dataclass(frozen=True, kw_only=True)
class WrittenTime:
    """A time in a text."""

    start: int
    """Place in the text of its first character."""
    end: int
    """Place behind its last."""
    seconds: float


def find_times(text: str, duration_seconds: float) -> Iterator[WrittenTime]:
    """Yield the times that an answer says, those past the video's end among them.

    Source: WHB139426/Grounded-Video-LLM e26da4e, `inference.py::parse_time_interval`.
    """
    for match in _TOKEN.finditer(text):
        seconds = duration_seconds * float(match[1]) / NUM_STEPS
        if math.isfinite(seconds):
            yield WrittenTime(start=match.start(), end=match.end(), seconds=seconds)


def write_whole_seconds(text: str, duration_seconds: float) -> str:
    """Write tokens for whole seconds, as the reference does in its mode `referring`.

    A fraction loses what stands before its point, and a time past the end is no token.

    Source: WHB139426/Grounded-Video-LLM e26da4e, `inference.py::create_inputs`.
    """
    return _WHOLE_SECONDS.sub(lambda match: _token(match[1], duration_seconds), text)


def write_seconds(text: str, duration_seconds: float, *, mark: str = "") -> tuple[str, int]:
    """Write tokens for seconds, fractions too, each behind `mark`; also return how many."""

    def token(match: re.Match[str]) -> str:
        if float(match[1]) > duration_seconds:
            raise InvalidRequestError(
                f"QUERY names a time past the video's end, which is at {duration_seconds:g} s, "
                f"got {match[0][:40]}"
            )
        return mark + _token(match[1], duration_seconds)

    written, number = _SECONDS.subn(token, text)
    if not number:
        raise InvalidRequestError(
            "QUERY must name the times it refers to with task referring, each as in "
            "'from 70 seconds to 80 seconds'"
        )
    return written, number


def _token(seconds: str, duration_seconds: float) -> str:
    steps = float(seconds) / duration_seconds * NUM_STEPS
    if math.isinf(steps):
        raise InvalidRequestError("QUERY names a number of seconds that is past all numbers")
    return f"<{int(steps)}>"


VIDEO_PLACEHOLDER = "<image>"


@dataclass(frozen=True, kw_only=True)
class Template:
    """What one decoder's prompts consist of."""

    system: str
    """Up to the first turn."""
    user: str
    """Before what the user says, in each turn."""
    behind: str
    """Between the user's turn and the answer."""
    end: str
    padding: str

    @property
    def before(self) -> str:
        """Up to what the user says first."""
        return f"{self.system}{self.user}"

    def prompt(self, question: str, *, grounding: bool, mark: str | None = None) -> str:
        """Put a question, with the video's placeholder before it.

        The words of a turn without times (not `grounding`) lose the space around them. `mark` is
        put in front of each token behind the placeholder, and what the question spells is text;
        without one its tokens are such, and the end token is taken out of it.

        Source: WHB139426/Grounded-Video-LLM e26da4e, `datasets/chat/base_template.py` and
        `inference.py::create_inputs`.
        """
        if grounding:
            turn = f"{VIDEO_PLACEHOLDER} {mark or ''}{GROUNDING_TOKEN}\n{question}"
        elif mark is None and GROUNDING_TOKEN in question:  # of the user's own
            turn = f"{VIDEO_PLACEHOLDER}\n{question}"
        else:
            turn = f"{VIDEO_PLACEHOLDER}\n{question.strip()}".strip()
        if mark is not None:
            return f"{self.before}{turn}{self.behind.replace('<|', f'{mark}<|')}"
        return f"{self.before}{turn}{self.behind}".replace(self.end, "")


TEMPLATES: Mapping[Llm, Template] = {
    "phi3.5": Template(
        system=(
            "<|system|>\nYou are a helpful AI assistant that can generate responses based on "
            "visual inputs."
        ),
        user="\n<|user|>\n",
        behind="\n<|assistant|>\n",
        end="<|endoftext|>",
        padding="<|end|>",
    ),
    "llama3": Template(
        system=(
            "<|start_header_id|>system<|end_header_id|>You are a helpful language and vision "
            "assistant. You are able to understand the visual content that the user provides, and "
            "assist the user with a variety of tasks using natural language."
        ),
        user="<|start_header_id|>user<|end_header_id|>",
        behind="<|start_header_id|>assistant<|end_header_id|>",
        end="<|eot_id|>",
        padding="<|end_of_text|>",
    ),
}
"""By the decoder."""
