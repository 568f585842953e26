"""From a question to the tokens that VTG-LLM's decoder reads, and from its tokens to text.

The prompt is a system text, the video, a sentence with the time of each frame and the question. The
reference tokenizes what stands before and behind the video apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.families.plans import VISUAL_TOKEN_ID, Prompt, SeenVideo, refuse_placeholder
from groundserve.families.vtgllm.times import TIME_TOKENS, time_sentence
from groundserve.options import AnswerOptions, Task
from groundserve.tokenizers.llama_added_tokens import AddedTokensLlamaTokenizer
from groundserve.tokenizers.llama_tokenizer import BEGIN, END, UNKNOWN
from groundserve.tokenizers.tokenizer_json import check_tokens

VIDEO_PLACEHOLDER = "<ImageHere>"

TASKS: tuple[Task, ...] = ("moment", "captions", "highlights", "summary", "chat")

BEFORE_VIDEO = (
    "[INST] <<SYS>>\nYou are able to understand the visual content that the user provides. Follow "
    "the instructions carefully and explain your answers in detail.\n<</SYS>>\n\n<Video>"
)
"""Text in front of the video."""
_MOMENT = (
    "Find the video segment that corresponds to the given textual query '{}' and determine its "
    "start and end seconds."
)
_CAPTIONS = (
    "Please locate a series of events in the video, output the start and end timestamps of each "
    "event, and describe each event in sentences. The output format of each predicted event should "
    'be as follows: "Start - End seconds, event description".'
)
_HIGHLIGHTS = (
    "After viewing the assigned video, identify the moments that align with the description: "
    "'{}'. Record the timecodes of these key scenes and assess their prominence using a relevance "
    "scale."
)
# One of the captions that videos to summarise have in training; the reference evaluates none.
_SUMMARY = "Crucial moments in the video"


class TimeTokenizer:
    """Prompts of questions, and the text of answers.

    Source: gyxxyg/VTG-LLM ce13f3e, `vtgllm/conversation/conversation_video_batch.py` and
    `evaluate.py`.
    """

    def __init__(self, path: Path, *, time_tokens: bool) -> None:
        """Load a `tokenizer.json` as `groundserve build` writes it."""
        tokenizer = AddedTokensLlamaTokenizer.from_file(path)
        needed = (VIDEO_PLACEHOLDER, *(TIME_TOKENS if time_tokens else ()))
        check_tokens(tokenizer.added_ids, needed, whose="this VTG-LLM")
        self._tokenizer = tokenizer
        self.end_ids = frozenset({tokenizer.end_id})
        self._time_tokens = time_tokens
        before = [tokenizer.begin_id, *tokenizer.encode(BEFORE_VIDEO), VISUAL_TOKEN_ID]
        self._before_ids: NDArray[np.int64] = np.array(before, np.int64)
        # Without time tokens the sentence is ordinary text to its end, and the question behind it.
        self._can_share_text = time_tokens or tokenizer.splits_at_spaces

    def prompt(self, query: str, options: AnswerOptions, seen: SeenVideo) -> Prompt:
        """Return a prompt; all up to the last frame's time is the same whatever is asked.

        Where times are ordinary text, all up to the end of their sentence.
        """
        text = word_question(query, options)
        refuse_placeholder(text, VIDEO_PLACEHOLDER)
        assert seen.model_seconds is not None, "the plan of this family always has them"
        times = time_sentence(seen.model_seconds, in_tokens=self._time_tokens)
        before = f"</Video> {times} seconds.  "
        behind = self._tokenizer.encode(
            f"{before}{text} [/INST]",
            plain_from=None if options.reads_control_tokens else len(before),
        )
        return Prompt(
            token_ids=np.append(self._before_ids, np.array(behind, np.int64)),
            num_prefix=self._before_ids.size + self._num_shared(times),
        )

    def text(self, token_ids: Sequence[int]) -> str:
        """Return an answer as the reference does: time tokens apart, cut at its end."""
        ids = list(token_ids)
        for token in (UNKNOWN, BEGIN):
            if ids[:1] == [self._tokenizer.special_id(token)]:
                del ids[0]
        # An end that is spelled in ordinary tokens ends it, too.
        text = self._tokenizer.decode(ids).partition(END)[0]
        return text.rpartition("ASSISTANT:")[2].strip()

    def _num_shared(self, times: str) -> int:
        """Return how many tokens behind the video's block no question changes."""
        if not self._can_share_text:
            return 0
        end = "" if self._time_tokens else " seconds."
        return len(self._tokenizer.encode(f"</Video> {times}{end}"))


def word_question(query: str, options: AnswerOptions) -> str:
    """Put a question as its task does, or leave it as it is where it is raw.

    Source: gyxxyg/VTG-LLM ce13f3e, `prompts/` and `evaluate.py`.
    """
    if options.raw:
        return query
    match options.task:
        case "moment":
            return _MOMENT.format(_description(query, "moment"))
        case "highlights":
            return _HIGHLIGHTS.format(_description(query, "highlights"))
        case "captions":
            return _CAPTIONS
        case "summary":
            return _HIGHLIGHTS.format(_SUMMARY)
        case _:
            return query


def _description(query: str, task: Task) -> str:
    if not query.replace(".", "").strip():
        raise InvalidRequestError(f"QUERY must say what to look for with task {task}, got no words")
    return query.strip(".")
