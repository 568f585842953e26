"""From the messages of a conversation to token ids with targets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from tokenizers import Tokenizer

from groundserve.data_record import IMAGE_PLACEHOLDER, Message
from groundserve.errors import InvalidRequestError
from groundserve.families.videoitg.prompt import IMAGE_TOKEN_ID
from train.config import Template
from train.data.records import check_placeholders
from train.examples import IGNORE_INDEX, Text

SYSTEM_MESSAGE = "You are a helpful assistant."
MESSAGE_START, MESSAGE_END = "<|im_start|>", "<|im_end|>"

Piece = tuple[str | None, bool]
"""Text that is tokenized by itself (None: the visual tokens), and whether all of it is learnt."""


class ConversationTokenizer:
    r"""Renders the conversations of stages 1 to 3.

    plain   <image>A tuxedo cat.\n             the human's words are left out; the answer is learnt
    chatml  <|im_start|>system\nYou are a helpful assistant.<|im_end|>\n
            <|im_start|>user\n<image>\nWhat is it?<|im_end|>\n
            <|im_start|>assistant\nA cat.<|im_end|>\n        learnt, as are newlines and wrappers

    Positions with the padding id are deleted, as the reference's mask deletes them in all stages.

    Source: NVlabs/VideoITG fab8b54, `train_vlm.py::preprocess_multimodal`,
    `train_vlm.py::preprocess_plain`, `train_vlm.py::preprocess_qwen` and
    `eagle/mm_utils.py::tokenizer_image_token`.
    """

    def __init__(self, tokenizer: Tokenizer, *, template: Template, pad_token_id: int) -> None:
        """Raise InvalidRequestError where the tokenizer lacks a token of the template."""
        self._tokenizer = tokenizer
        self._template = template
        self._pad_token_id = pad_token_id
        self._always_learnt: frozenset[int] = frozenset()
        if template == "chatml":
            # A trap: besides the assistant's messages the reference learns these tokens wherever
            # they are, also in the system's and the user's messages; without them the loss is
            # another one. A newline counts where it is a token by itself (198 in Qwen2), not
            # where it is the end of one (`?` and a newline).
            always = ("\n", MESSAGE_START, MESSAGE_END)
            self._always_learnt = frozenset(self._only_id(text) for text in always)

    def text(self, messages: Sequence[Message], *, has_media: bool) -> Text:
        """Tokenize a conversation of at least two messages, the first from the user.

        Without an image or video the placeholder, which every text has, comes last: the model is
        causal, so what stands there changes nothing.

        Raises:
            InvalidRequestError: `<image>` stands elsewhere than in the first message, or the
                template has no place for the conversation.
        """
        # First: the renderers below look for placeholders in the first message only.
        check_placeholders(messages, has_media=has_media)
        render = {"plain": _plain_pieces, "chatml": _chatml_pieces}[self._template]
        pieces = render(messages, has_media)
        return self._tokenize(pieces if has_media else [*pieces, (None, False)])

    def _tokenize(self, pieces: Iterable[Piece]) -> Text:
        ids: list[int] = []
        targets: list[int] = []
        for text, is_learnt in pieces:
            piece_ids = [IMAGE_TOKEN_ID] if text is None else self._ids(text)
            ids += piece_ids
            targets += [
                i if is_learnt or i in self._always_learnt else IGNORE_INDEX for i in piece_ids
            ]
        # By id and not by place: a padding token within a text goes too, as it does in the
        # reference.
        is_kept = np.array(ids) != self._pad_token_id
        return Text(ids=np.array(ids)[is_kept], targets=np.array(targets)[is_kept])

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _only_id(self, text: str) -> int:
        ids = self._ids(text)
        # The rule for what is always learnt looks at single ids.
        if len(ids) != 1:
            raise InvalidRequestError(
                f"template chatml needs {text!r} to be one token, this tokenizer makes it "
                f"{len(ids)}; use a Qwen2 tokenizer"
            )
        return ids[0]


def _plain_pieces(messages: Sequence[Message], has_media: bool) -> list[Piece]:
    if [message.role for message in messages] != ["user", "assistant"]:
        raise InvalidRequestError(
            "conversations must have two messages, from human and gpt, for the template plain, "
            f"got {len(messages)}"
        )
    answer: Piece = (f"{messages[1].text}\n", True)
    return [(None, False), answer] if has_media else [answer]


def _chatml_pieces(messages: Sequence[Message], has_media: bool) -> list[Piece]:
    pieces: list[Piece] = [(_wrap("system", SYSTEM_MESSAGE), False)]
    for number, message in enumerate(messages):
        is_learnt = message.role == "assistant"
        if number == 0 and has_media:
            # Wherever it stood, it goes to the front, on a line of its own.
            question = message.text.replace(IMAGE_PLACEHOLDER, "").strip()
            # In two pieces, each tokenized by itself: no token may span the visual tokens' place.
            before, after = _wrap("user", f"{IMAGE_PLACEHOLDER}\n{question}").split(
                IMAGE_PLACEHOLDER
            )
            pieces += [(before, is_learnt), (None, False), (after, is_learnt)]
        else:
            pieces.append((_wrap(message.role, message.text), is_learnt))
    return pieces


def _wrap(role: str, text: str) -> str:
    return f"{MESSAGE_START}{role}\n{text}{MESSAGE_END}\n"
