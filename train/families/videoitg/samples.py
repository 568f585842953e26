"""From a record and the number of frames to what VideoITG's models take, and what that costs.

A multiplication with its addition is 2 FLOP; norms, activations, rotary tables and the optimiser,
below a percent together, are left out. FLOPs of the model, not of kernels: padding and what a
causal kernel skips in part do not count. A product costs as much for the gradient of each of its
factors as forward.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from groundserve.data_record import IMAGE_PLACEHOLDER, Message, Record
from groundserve.errors import InvalidRequestError
from groundserve.families.videoitg.config import CheckpointConfig, VisionConfig
from groundserve.families.videoitg.grid import grid_side
from groundserve.families.videoitg.prompt import IMAGE_TOKEN_ID, QueryTokenizer
from groundserve.families.videoitg.sampling import sample_frames
from groundserve.media.index import VideoIndex
from train.config import DataConfig, Stage, StageConfig, Template
from train.data.records import check_placeholders
from train.examples import IGNORE_INDEX, Text
from train.families.base import SampleCost, SampleFlops


class Samples:
    """How records become samples, a `train.families.base.SampleFormat`."""

    rule = "rule A"

    def __init__(
        self,
        config: DataConfig,
        *,
        stage: Stage,
        tokenizer: Tokenizer,
        pad_token_id: int,
        image_size: int,
        side: int,
    ) -> None:
        """Raise InvalidRequestError where the tokenizer lacks a token of the template.

        Positions with the padding id are dropped; `side` is the largest grid.
        """
        self.image_size = image_size
        self._config = config
        self._side = side
        self._questions = QueryTokenizer(tokenizer, pad_token_id=pad_token_id)
        self._conversations = None
        if stage != "grounding":
            self._conversations = ConversationTokenizer(
                tokenizer, template=config.template, pad_token_id=pad_token_id
            )

    @staticmethod
    def sample(
        index: VideoIndex, *, sample_fps: float, max_frames: int | None
    ) -> NDArray[np.int64]:
        """Sample every so many frames, as the reference does."""
        return sample_frames(
            index.num_source_frames,
            index.average_fps,
            sampling="infer",
            sample_fps=sample_fps,
            num_frames=max_frames or index.num_source_frames,
        )

    def tokens_per_frame(self, num_frames: int) -> int:
        """Return g * g of the largest grid that the budget allows."""
        budget = self._config.vision_token_num
        return grid_side(num_frames, vision_token_num=budget, side=self._side) ** 2

    def drawn_tokens_per_frame(self, num_frames: int) -> list[int]:
        """Return g * g of each of `grid_choices`."""
        grids = grid_choices(
            num_frames,
            vision_token_num=self._config.vision_token_num,
            vision_min_num=self._config.vision_min_num,
            side=self._side,
        )
        return [grid**2 for grid in grids]

    def text(self, record: Record, *, has_media: bool) -> Text:
        """Tokenize a conversation, or in stage 4 a question as serving does."""
        if self._conversations is not None:
            return self._conversations.text(record.messages, has_media=has_media)
        words = self._questions.text_ids(record.messages[0].text)
        return Text(ids=np.concatenate([[IMAGE_TOKEN_ID], words]))


def grid_choices(
    num_frames: int, *, vision_token_num: int, vision_min_num: int, side: int
) -> list[int]:
    """Return the grids of T frames that training draws from, each as likely as it is often there.

    Raises:
        InvalidRequestError: The largest grid of T frames is below `vision_min_num`.

    Source: NVlabs/VideoITG fab8b54, `eagle/model/multimodal_projector/mlp_proj.py::MLPProjector`:
    uniform up to what the budget allows, and only then capped at `side`, so short videos mostly
    get the full grid.
    """
    uncapped = vision_token_num  # no grid of T >= 1 frames is larger
    largest = grid_side(num_frames, vision_token_num=vision_token_num, side=uncapped)
    if largest < vision_min_num:
        raise InvalidRequestError(
            f"{num_frames} frames leave a grid of at most {largest} x {largest}, "
            f"vision_min_num is {vision_min_num}; sample fewer frames"
        )
    return [min(grid, side) for grid in range(vision_min_num, largest + 1)]


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


def sample_cost(stage: StageConfig, config: CheckpointConfig, vision: VisionConfig) -> SampleCost:
    """Count what samples are dealt to processes by."""
    forward = 1 + stage.gradient_checkpointing
    # In stage 1 the decoder is frozen: gradients pass through it to the projector, none are of it.
    backward = 1 if stage.stage == "projector" else 2
    is_causal = not stage.is_grounding or stage.variant == "anchor"
    return SampleCost(
        frame=vision.frame_flop(vision.num_layers_used(config.mm_vision_select_layer)),
        token=(forward + backward) * config.linear_flop(1),
        # Both factors of these products are activations, so both gradients are always needed.
        pair=(forward + 2) * config.attention_flop(1, is_causal=is_causal),
    )


def sample_flops(
    stage: StageConfig,
    config: CheckpointConfig,
    vision: VisionConfig,
    *,
    num_frames: int,
    tokens_per_frame: int,
    num_text_tokens: int,
    num_targets: int = 0,
) -> SampleFlops:
    """Return what one sequence costs in training, with the encoding of its frames."""
    cost = sample_cost(stage, config, vision)
    num_visual = num_frames * tokens_per_frame
    num_tokens = num_visual + num_text_tokens
    # Two layers, D_v x D and D x D, three times: forward, and the gradients of weights and of
    # inputs. (The inputs of its first layer are the frozen tower's and need none; the little is
    # not taken off.)
    projector = 6 * num_visual * config.hidden_size * (config.mm_hidden_size + config.hidden_size)
    # Only positions with a target go through it, and once: it is not computed again.
    head = 2 * num_targets * config.hidden_size * config.vocab_size
    passes = 2 if stage.stage == "projector" else 3
    return SampleFlops(
        tower=num_frames * cost.frame,
        decoder=projector + num_tokens * cost.token + num_tokens**2 * cost.pair + passes * head,
    )
