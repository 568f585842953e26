"""The tokenizer of a Grounded-VideoLLM checkpoint: the decoder's own, and tokens for times."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from groundserve.errors import InvalidRequestError
from groundserve.families.grounded_videollm.spec import Llm
from groundserve.families.grounded_videollm.template import TEMPLATES
from groundserve.families.grounded_videollm.times import NEW_TOKENS
from groundserve.tokenizers.tokenizer_json import read_tokenizer_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def read_tokenizer(directory: Path, llm: Llm) -> tuple[Tokenizer, int]:
    """Return the tokenizer with `NEW_TOKENS` behind its own, and the padding id.

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
