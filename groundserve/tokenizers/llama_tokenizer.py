"""Tokenize and write out text as the slow tokenizer of Llama does, bit for bit."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from groundserve.errors import EngineMismatchError
from groundserve.tokenizers.tokenizer_json import check_tokens, load_tokenizer_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
"""Special tokens: for what the vocabulary lacks, in front of a text, behind an answer."""

SPACE = "\u2581"
"""What stands for a space in a piece of text."""

_BYTE = re.compile("<0x([0-9A-F]{2})>")  # a piece that stands for a byte
_UNDECODED = re.compile("[\udc80-\udcff]")  # how "surrogateescape" marks a byte


class LlamaTokenizer:
    """The slow tokenizer of transformers v4.31.0, which the models it serves were made with.

    Later releases tokenize what stands behind a special token in another way.

    Source: transformers v4.31.0, `src/transformers/models/llama/tokenization_llama.py` and
    `src/transformers/tokenization_utils.py`; sentencepiece, `src/sentencepiece_processor.cc`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._special = {
            token.content: i for i, token in tokenizer.get_added_tokens_decoder().items()
        }
        needed = (UNKNOWN, BEGIN, END)
        check_tokens(self._special, needed, whose="a Llama model", what="special token")
        self._tokenizer = tokenizer
        self._model = tokenizer.model
        self._legacy = tokenizer.pre_tokenizer is None
        self._special_ids = frozenset(self._special.values())
        self._at_special = re.compile(f"({'|'.join(map(re.escape, self._special))})")
        self.begin_id = self._special[BEGIN]
        self.end_id = self._special[END]

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Load a `tokenizer.json`."""
        return cls(load_tokenizer_json(path))

    def encode(self, text: str, *, plain_from: int | None = None) -> list[int]:
        """Return the tokens of a text, without a beginning token.

        A special token that is written out in it becomes that token, from `plain_from` on text.
        """
        ids: list[int] = []
        for place, part in enumerate(self._split(text.replace(SPACE, " "), plain_from)):
            if place % 2:  # between two stretches of text stands what they were split at
                ids.append(self._special[part])
            elif part:
                ids += self._encode_part(part, is_first=place == 0)
        return ids

    def decode(self, token_ids: Iterable[int]) -> str:
        """Return the text of tokens, special ones left out."""
        pieces = [self._piece(i) for i in token_ids if i not in self._special_ids]
        if pieces:
            pieces[0] = pieces[0].removeprefix(SPACE)
        return decode_pieces(pieces)

    def _split(self, text: str, plain_from: int | None) -> list[str]:
        """Return stretches of text, each second one the special token between two others."""
        if plain_from is None:
            return self._at_special.split(text)
        *parts, last = self._at_special.split(text[:plain_from])
        return [*parts, last + text[plain_from:]]

    def _encode_text(self, text: str) -> list[int]:
        """Return the pieces of a text as it is, whatever is written in it."""
        return [piece.id for piece in self._model.tokenize(text.replace(" ", SPACE))]

    def _encode_part(self, part: str, *, is_first: bool) -> list[int]:
        """Tokenize with a space in front; behind a special token, take it off its piece again.

        The legacy flavour keeps it. The rest of the piece may be none of the vocabulary, which the
        reference takes as it comes.
        """
        ids = self._encode_text(SPACE + part)
        if self._legacy or is_first or part.startswith(" "):
            return ids
        rest = self._piece(ids[0]).removeprefix(SPACE)
        if not rest:
            return ids[1:]
        rest_id = self._tokenizer.token_to_id(rest)
        return [self._special[UNKNOWN] if rest_id is None else rest_id, *ids[1:]]

    def _piece(self, token_id: int) -> str:
        piece: str | None = self._tokenizer.id_to_token(token_id)
        if piece is None:
            raise EngineMismatchError(
                f"the tokenizer has no token {token_id}, which the decoder gave; build the engines "
                "again"
            )
        return piece


def decode_pieces(pieces: Iterable[str]) -> str:
    """Return the text of pieces that are no special tokens, each space kept.

    Bytes that are no UTF-8, as where an answer ends within a character, become U+FFFD each;
    `tokenizers` would write so the good ones beside them, too.
    """
    text = b"".join(map(_bytes_of, pieces)).decode("utf-8", "surrogateescape")
    return _UNDECODED.sub("\ufffd", text)


def _bytes_of(piece: str) -> bytes:
    byte = _BYTE.fullmatch(piece)
    return bytes.fromhex(byte[1]) if byte else piece.replace(SPACE, " ").encode()
