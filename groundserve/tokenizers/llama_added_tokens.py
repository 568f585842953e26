"""Tokenize and write out text as later slow tokenizers of Llama do, with tokens added to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from groundserve.tokenizers.llama_tokenizer import SPACE, LlamaTokenizer, decode_pieces

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class AddedTokensLlamaTokenizer(LlamaTokenizer):
    """The slow tokenizer of transformers v4.41.1, special tokens written out in the text.

    Behind an added token, text is tokenized without a space in front where the checkpoint's
    `legacy` is false; v4.31.0, which `LlamaTokenizer` is, puts one there and takes it off again.

    Source: transformers v4.41.1, `src/transformers/models/llama/tokenization_llama.py` and
    `src/transformers/tokenization_utils.py`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self._num_pieces: int = tokenizer.get_vocab_size(with_added_tokens=False)
        added = tokenizer.get_added_tokens_decoder()
        self._unspaced_ids = frozenset(i for i, token in added.items() if token.special)

    @property
    def added_ids(self) -> dict[str, int]:
        """Id of each token behind the pieces."""
        return {token: i for token, i in self._special.items() if i >= self._num_pieces}

    def special_id(self, token: str) -> int:
        """Return the id of a token that text is split at."""
        return self._special[token]

    @property
    def splits_at_spaces(self) -> bool:
        """Whether text before a space is tokenized the same whatever stands behind it.

        No piece has a space behind another character, so none reaches over that place.
        """
        pieces = self._tokenizer.get_vocab(with_added_tokens=False)
        return all(SPACE not in piece.lstrip(SPACE) for piece in pieces)

    def encode(self, text: str, *, plain_from: int | None = None) -> list[int]:
        """Do what `LlamaTokenizer.encode` does, for added tokens, too."""
        if not text:
            return []
        in_front = SPACE if self._legacy else ""
        parts = self._split(text, plain_from)
        if not self._legacy:
            parts[0] = SPACE + parts[0]
        ids: list[int] = []
        for place, part in enumerate(parts):
            if place % 2:  # between two stretches of text stands what they were split at
                ids.append(self._special[part])
            elif part:
                ids += self._encode_text(in_front + part)
        starts_special = len(ids) > 1 and ids[1] in self._unspaced_ids
        if not self._legacy and starts_special and self._piece(ids[0]) == SPACE:
            return ids[1:]
        return ids

    def decode(self, token_ids: Iterable[int]) -> str:
        """Return the text of tokens, those behind the pieces with a space between."""
        parts: list[str] = []
        run: list[str] = []
        for token_id in token_ids:
            piece = self._piece(token_id)
            if token_id < self._num_pieces:
                run.append(piece)
                continue
            text = self._decode_run(run)
            parts += [text, piece] if text else [piece]
            run = []
        if run:
            parts.append(self._decode_run(run))
        return " ".join(parts)

    def _decode_run(self, pieces: Sequence[str]) -> str:
        """Return the text of pieces between added tokens, of which "<s>" is none."""
        text = ""
        words: list[str] = []
        was_special = False
        for place, piece in enumerate(pieces):
            if piece in self._special:
                # In front of the words, as there.
                if self._legacy and place and not was_special:
                    text += " "
                text += self._decode_words(words) + piece
                words = []
            else:
                if was_special and place == 1 and not piece.startswith(SPACE):
                    text += " "
                words.append(piece if place else piece.removeprefix(SPACE))
            was_special = piece in self._special
        return text + self._decode_words(words)

    def _decode_words(self, words: Sequence[str]) -> str:
        """Return the text of pieces; of the legacy flavour SentencePiece takes off a space."""
        if self._legacy:
            first = next((place for place, word in enumerate(words) if word), 0)
            words = [
                *words[:first],
                *(word.removeprefix(SPACE) for word in words[first : first + 1]),
                *words[first + 1 :],
            ]
        return decode_pieces(words)
