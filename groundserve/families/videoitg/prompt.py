"""From a question to the token ids that the model embeds.

The prompt is the placeholder of the video, the question, one newline; nothing else. The
placeholder never becomes a token here: visual tokens stand in its place, in front of the text.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from groundserve.data_record import IMAGE_PLACEHOLDER
from groundserve.families.plans import VISUAL_TOKEN_ID, refuse_placeholder
from groundserve.tokenizers.tokenizer_json import load_tokenizer_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

IMAGE_TOKEN_ID = VISUAL_TOKEN_ID  # as the reference has it


class QueryTokenizer:
    """Tokenizes questions exactly as the reference does.

    Source: NVlabs/VideoITG fab8b54, `eagle/mm_utils.py::tokenizer_image_token` and the deletion of
    masked positions in
    `eagle/model/eagle_archv1.py::EagleMetaForCausalLM.prepare_inputs_labels_for_multimodal`.
    """

    def __init__(self, tokenizer: Tokenizer, *, pad_token_id: int) -> None:
        self._tokenizer = tokenizer
        self.pad_token_id = pad_token_id

    @classmethod
    def from_file(cls, path: Path, *, pad_token_id: int) -> QueryTokenizer:
        """Load a `tokenizer.json`, in which every special token is registered."""
        return cls(load_tokenizer_json(path), pad_token_id=pad_token_id)

    def input_ids(self, query: str) -> list[int]:
        """Return the reference's `input_ids`: -200 for the video, then the text.

        The newline is part of the tokenized string: `?` and a newline can be one token.
        """
        refuse_placeholder(query, IMAGE_PLACEHOLDER)
        # No special tokens: Qwen2's tokenizer adds none either, and the prompt has none.
        encoding = self._tokenizer.encode(query + "\n", add_special_tokens=False)
        return [IMAGE_TOKEN_ID, *encoding.ids]

    def text_ids(self, query: str) -> NDArray[np.int64]:
        """Return int64 (L,), the ids that are embedded after the visual tokens.

        Ids equal to the padding id are missing: the reference's mask deletes them. With the
        tokenizer that training leaves behind the padding token is `!`.
        """
        kept = [i for i in self.input_ids(query)[1:] if i != self.pad_token_id]
        return np.array(kept, np.int64)
