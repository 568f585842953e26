"""BERT's tokens of the sentence that the Q-Former of one variant reads beside each frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tokenizers import BertWordPieceTokenizer

from groundserve.errors import InvalidRequestError
from groundserve.families.vtgllm.times import LENGTH, TIME_TOKENS

_VOCABULARY_NAME = "vocab.txt"
# Around the time, which is spelled in tokens of its own.
_BEFORE, _AFTER = "This frame is sampled at ", " second."


@dataclass(frozen=True, kw_only=True)
class FrameText:
    """The sentence in tokens; as `VTGLLMSpec` has them."""

    before: list[int]
    """Up to the time, BERT's beginning token included."""
    digits: list[int]
    """Tokens of the digits 0 to 9 and of the point."""
    after: list[int]
    """Behind the time, BERT's end token included."""

    @classmethod
    def read(cls, directory: Path) -> FrameText:
        """Tokenize it with the BERT of a directory, which is without case.

        Source: gyxxyg/VTG-LLM ce13f3e, `vtgllm/models/blip2.py::init_tokenizer`, which adds one
        token to the vocabulary, and `vtgllm/models/vtgllm.py::from_config`, which adds these.
        """
        path = directory / _VOCABULARY_NAME
        try:
            tokenizer = BertWordPieceTokenizer(str(path), lowercase=True)
            before, after = (tokenizer.encode(text).ids for text in (_BEFORE, _AFTER))
        except Exception as error:  # of `tokenizers`, of no kind of its own
            raise InvalidRequestError(
                f"the part bert: {_VOCABULARY_NAME} is missing or damaged; download it again"
            ) from error
        first = tokenizer.get_vocab_size() + 1
        return cls(
            before=before[:-1],
            digits=list(range(first, first + len(TIME_TOKENS))),
            after=after[1:],
        )

    @property
    def length(self) -> int:
        """Tokens of the sentence."""
        return len(self.before) + LENGTH + len(self.after)

    @property
    def num_words(self) -> int:
        """Rows of the Q-Former's table of words."""
        return self.digits[-1] + 1
