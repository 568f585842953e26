"""From a question to the tokens that Grounded-VideoLLM reads, and from its tokens to text.

The prompt is the decoder's template around the video and the question. The reference tokenizes what
stands before and behind the video apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from groundserve.errors import InvalidRequestError
from groundserve.families.grounded_videollm.plan import GroundedVideoLLMSpec, Llm
from groundserve.families.grounded_videollm.times import (
    NEW_TOKENS,
    NUM_STEPS,
    TEMPLATES,
    VIDEO_PLACEHOLDER,
    write_seconds,
    write_whole_seconds,
)
from groundserve.families.plans import VISUAL_TOKEN_ID, Prompt, SeenVideo, refuse_placeholder
from groundserve.options import AnswerOptions, Task
from groundserve.tokenizers.tokenizer_json import (
    MarkedTokenizer,
    TokenWriter,
    check_tokens,
    load_tokenizer_json,
    read_tokenizer_json,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TASKS: tuple[Task, ...] = ("moment", "captions", "question", "referring", "chat")

MAX_TEXT_IDS = 2048
"""Most ids of a prompt, the video's place counted as one. Past them the reference leaves out the
first, the video's place soon among them."""

_MOMENT = (
    "Give you a textual query: '{}'. When does the described content occur in the video? Please "
    "return the start and end timestamps."
)
_CAPTIONS = (
    "Localize a series of activity events in the video, output the start and end timestamp for "
    "each event, and describe each event with sentences."
)


class GroundedTokenizer:
    """Prompts of questions, and the text of answers.

    Source: WHB139426/Grounded-Video-LLM e26da4e, `inference.py` and
    `models/llava_next_video.py::tokenizer_image_token`.
    """

    def __init__(self, path: Path, spec: GroundedVideoLLMSpec) -> None:
        """Load a `tokenizer.json` as `groundserve build` writes it."""
        tokenizer, template = load_tokenizer_json(path), TEMPLATES[spec.llm]
        wanted = (template.end, *NEW_TOKENS)
        ids = {one: i for one in wanted if (i := tokenizer.token_to_id(one)) is not None}
        check_tokens(ids, wanted, whose="Grounded-VideoLLM")
        self._tokenizer = tokenizer
        self._marked = MarkedTokenizer(tokenizer)
        self._writer = TokenWriter(tokenizer)
        self._template = template
        self._time_ids = [ids[one] for one in NEW_TOKENS[: NUM_STEPS + 1]]
        self._begin_ids = self._encode("")
        self.end_ids = frozenset({ids[template.end]})

    def prompt(self, query: str, options: AnswerOptions, seen: SeenVideo) -> Prompt:
        """Return a prompt; all up to the video's block is the same whatever is asked."""
        mark = None if options.reads_control_tokens else self._marked.mark
        question, num_times = word_question(query, options, seen, mark=mark or "")
        grounding = options.task in ("moment", "captions")
        text = self._template.prompt(question, grounding=grounding, mark=mark)
        before, _, behind = text.partition(VIDEO_PLACEHOLDER)
        refuse_placeholder(behind, VIDEO_PLACEHOLDER)
        prefix_ids = [*self._encode(before), VISUAL_TOKEN_ID]
        suffix_ids = (
            self._encode(behind)[len(self._begin_ids) :]
            if mark is None
            else self._marked.encode(behind)
        )
        num_ids = len(prefix_ids) + len(suffix_ids)
        if num_ids > MAX_TEXT_IDS:
            raise InvalidRequestError(
                f"QUERY must have at most {MAX_TEXT_IDS} tokens with the prompt around it, got "
                f"{num_ids}; shorten it"
            )
        if np.isin(suffix_ids, self._time_ids).sum() < num_times:
            raise InvalidRequestError(
                "QUERY must have a word before its first time and a space before each with task "
                "referring, or the model does not read them as times"
            )
        return Prompt(
            token_ids=np.array([*prefix_ids, *suffix_ids], np.int64), num_prefix=len(prefix_ids)
        )

    def text(self, token_ids: Sequence[int]) -> str:
        """Return an answer as the reference does: tokens for times stay, as `<30>`."""
        return self._writer.text(token_ids).strip()

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids


def read_tokenizer(directory: Path, llm: Llm) -> tuple[Tokenizer, int]:
    """Return a checkpoint's tokenizer with `NEW_TOKENS` behind its own, and the padding id.

    They are ordinary tokens: the normaliser of the decoder's own meets them, too, and text keeps
    them.

    Source: WHB139426/Grounded-Video-LLM e26da4e, `models/llava_next_video.py`.
    """
    tokenizer = read_tokenizer_json(directory)
    template = TEMPLATES[llm]
    for token in (template.end, template.padding):
        if tokenizer.token_to_id(token) is None:
            raise InvalidRequestError(
                f"checkpoint {directory.name}: the tokenizer has no {token}, as that of {llm} has; "
                "give the files of one model"
            )
    tokenizer.add_tokens(list(NEW_TOKENS))
    return tokenizer, cast(int, tokenizer.token_to_id(template.padding))  # which is there


def word_question(
    query: str, options: AnswerOptions, seen: SeenVideo, *, mark: str = ""
) -> tuple[str, int]:
    """Put a question as its task does, or leave it where it is raw, seconds of "referring" apart.

    Return it, `mark` in front of each token that is written for a time, and how many times it names
    that the model must read as such.
    """
    assert seen.time_range_seconds is not None, "the plan of this family always has one"
    duration_seconds = seen.time_range_seconds[1]
    if options.task == "referring":
        if options.raw:
            return write_whole_seconds(query, duration_seconds), 0
        return write_seconds(query, duration_seconds, mark=mark)
    if options.raw or options.task in ("question", "chat"):
        return query, 0
    return (_CAPTIONS if options.task == "captions" else _MOMENT.format(query.strip())), 0
