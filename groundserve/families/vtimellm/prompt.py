"""From a question to the tokens that VTimeLLM's decoder reads, and from its tokens to text.

The prompt is a system text, `USER: `, the video, a newline, the question and `ASSISTANT:`. The
reference tokenizes what stands before and behind the video apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundserve.errors import InvalidRequestError
from groundserve.families.plans import VISUAL_TOKEN_ID, Prompt, SeenVideo, refuse_placeholder
from groundserve.options import AnswerOptions
from groundserve.tokenizers.llama_tokenizer import END, LlamaTokenizer

VIDEO_PLACEHOLDER = "<video>"

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
"""Before the first question, with a space behind it."""
BEFORE_VIDEO = f"{SYSTEM} USER: "
"""What stands before the video of the first question."""
_MOMENT = "During which frames can we see {}?"
# Behind the newline stands a space here, as in the reference.
_CAPTIONS = (
    " Could you please describe the events in the video in detail? Be specific about the "
    "activities of individuals, their surroundings, and interactions with others. The output "
    'should be in JSON format, structured as follows: {"event": "xx", "timestamps": "from xx to '
    'xx"}.'
)


class VicunaTokenizer:
    """Prompts of questions, and the text of answers.

    Source: huangb23/VTimeLLM c34ae56, `vtimellm/mm_utils.py::tokenizer_image_token` and
    `vtimellm/inference.py::inference`.
    """

    def __init__(self, path: Path) -> None:
        """Load a `tokenizer.json` as `groundserve build` writes it."""
        self._tokenizer = tokenizer = LlamaTokenizer.from_file(path)
        self.end_ids = frozenset({tokenizer.end_id})
        before = [tokenizer.begin_id, *tokenizer.encode(BEFORE_VIDEO), VISUAL_TOKEN_ID]
        self._prefix_ids: NDArray[np.int64] = np.array(before, np.int64)

    def prompt(self, query: str, options: AnswerOptions, seen: SeenVideo) -> Prompt:
        """Return a prompt; all up to the video's block is the same whatever is asked."""
        text = word_question(query, options)
        refuse_placeholder(text, VIDEO_PLACEHOLDER)
        suffix_ids = self._tokenizer.encode(
            f"\n{text} ASSISTANT:", plain_from=None if options.reads_control_tokens else 0
        )
        return Prompt(
            token_ids=np.append(self._prefix_ids, suffix_ids), num_prefix=self._prefix_ids.size
        )

    def text(self, token_ids: Sequence[int]) -> str:
        """Return an answer as the reference does."""
        # An end that is spelled in ordinary tokens is taken off, too.
        return self._tokenizer.decode(token_ids).strip().removesuffix(END).strip()


def word_question(query: str, options: AnswerOptions) -> str:
    """Put a question as its task does, or leave it as it is where it is raw.

    Source: huangb23/VTimeLLM c34ae56, `vtimellm/eval/eval.py`.
    """
    if options.raw or options.task == "chat":
        return query
    if options.task == "captions":
        return _CAPTIONS
    sentence = query.strip().lower().removesuffix(".")
    if not sentence.strip():
        raise InvalidRequestError("QUERY must say what to look for with task moment, got no words")
    return _MOMENT.format(sentence)
