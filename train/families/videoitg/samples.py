"""From a record and the number of frames to what VideoITG's models take."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from groundserve.data_record import Record
from groundserve.errors import InvalidRequestError
from groundserve.families.videoitg.grid import grid_side
from groundserve.families.videoitg.prompt import IMAGE_TOKEN_ID, QueryTokenizer
from groundserve.families.videoitg.sampling import sample_frames
from groundserve.media.index import VideoIndex
from train.config import DataConfig, Stage
from train.examples import Text
from train.families.videoitg.conversations import ConversationTokenizer


class RuleA:
    """The reference's sampling, a `train.families.base.FrameSampler`."""

    name = "rule A"

    def __call__(
        self, index: VideoIndex, *, sample_fps: float, max_frames: int | None
    ) -> NDArray[np.int64]:
        """Sample every so many frames; without a ceiling return all its candidates."""
        return sample_frames(
            index.num_source_frames,
            index.average_fps,
            sampling="infer",
            sample_fps=sample_fps,
            num_frames=max_frames or index.num_source_frames,
        )


class Samples:
    """How records become samples, a `train.families.base.SampleFormat`."""

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
        self.sample = RuleA()
        self._config = config
        self._side = side
        self._questions = QueryTokenizer(tokenizer, pad_token_id=pad_token_id)
        self._conversations = None
        if stage != "grounding":
            self._conversations = ConversationTokenizer(
                tokenizer, template=config.template, pad_token_id=pad_token_id
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
