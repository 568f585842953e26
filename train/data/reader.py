"""From an item to what the model takes, or to the reason why not.

Shape letters: T sampled frames, S side of the resized frames.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from groundserve.data_record import Record
from groundserve.errors import DeadlineExceededError, InvalidRequestError, UnavailableError
from groundserve.families.videoitg.grid import grid_side
from groundserve.families.videoitg.prompt import IMAGE_TOKEN_ID, QueryTokenizer
from train.config import RANDOM_SAMPLE_FPS, DataConfig, Stage
from train.data.items import Item, guess_num_frames
from train.data.labels import frame_labels, multi_hot
from train.data.media import FrameReader
from train.data.records import MalformedRecord
from train.examples import Example, Text
from train.families.videoitg.conversations import ConversationTokenizer

READ_ERRORS = (InvalidRequestError, DeadlineExceededError, UnavailableError)
"""What a file can cause; any other exception is a bug or a broken installation, and passes."""


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A record, or all records of an item, that nothing is learnt from.

    The reference puts a random sample in its place, so that nobody sees how many are lost.
    """

    item: int
    """Number of the item it is of."""
    source: str
    """Media path and ids as in the data file."""
    reason: str
    """One line."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What came of one item."""

    example: Example | None = None
    """With the records that can be used; None if there are none."""
    places: tuple[int, ...] = ()
    """Which of the item's records those are: the places of its texts, in order."""
    unreadable: tuple[Unreadable, ...] = ()
    """The others."""


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What reading an item will probably give."""

    num_frames: int
    """T."""
    lengths: tuple[int, ...]
    """Visual and text tokens of each record's sequence."""


class ItemReader:
    """Decodes, tokenizes and labels; `read` may be called from any thread."""

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

        Args:
            config: Its `records` are not read here.
            stage: Decides what the text is.
            tokenizer: The checkpoint's.
            pad_token_id: Positions with this id are dropped.
            image_size: S.
            side: Patches along one side of the vision tower, the largest grid.
        """
        self._config = config
        self._side = side
        self._questions = QueryTokenizer(tokenizer, pad_token_id=pad_token_id)
        self._conversations = None
        if stage != "grounding":
            self._conversations = ConversationTokenizer(
                tokenizer, template=config.template, pad_token_id=pad_token_id
            )
        self.frames = FrameReader(
            config.media_root,
            image_size=image_size,
            max_frames=config.max_frames,
            num_workers=config.num_workers,
            frame_cache=config.frame_cache,
        )

    def read(
        self, item: Item | MalformedRecord, *, number: int, rng: random.Random, draws_grid: bool
    ) -> Reading:
        """Read one item; a fault of one record leaves the item its others.

        Args:
            item: What to read.
            number: Its number, for reports.
            rng: Draws the rate, if the config has none, and the grid.
            draws_grid: As in training; else the grid is that of evaluation.
        """
        if isinstance(item, MalformedRecord):
            lost = _unreadable(number, item.path, [item.name], item.reason)
            return Reading(unreadable=(lost,))
        path = item.media.path if item.media else None
        try:
            frames = self._read_frames(item, rng)
            grid = self._grid(item, len(frames), rng if draws_grid else None)
            frame_targets = multi_hot(item.records[0].frame_targets, num_frames=len(frames))
        except READ_ERRORS as error:
            names = [record.name for record in item.records]
            return Reading(unreadable=(_unreadable(number, path, names, error),))
        texts: dict[int, Text] = {}
        unreadable: list[Unreadable] = []
        for place, record in enumerate(item.records):
            try:
                texts[place] = self._text(record, item, num_frames=len(frames), grid=grid)
            except InvalidRequestError as error:
                unreadable.append(_unreadable(number, path, [record.name], error))
        if not texts:
            return Reading(unreadable=tuple(unreadable))
        example = Example(
            frames=frames, grid=grid, texts=tuple(texts.values()), frame_targets=frame_targets
        )
        return Reading(example=example, places=tuple(texts), unreadable=tuple(unreadable))

    def guess(self, item: Item | MalformedRecord, *, rng: random.Random) -> Guess:
        """Guess the size of an item without opening its file.

        Rate and grid are those that `read` will draw from the same random numbers, if the number
        of frames is right (`guess_num_frames`); the text is taken to have 4 tokens for 3 words.
        """
        if isinstance(item, MalformedRecord):
            return Guess(num_frames=0, lengths=())
        sample_fps = self._sample_fps(rng)
        num_frames = guess_num_frames(
            item, sample_fps=sample_fps, max_frames=self._config.max_frames
        )
        try:
            grid = self._grid(item, num_frames, rng)
        except InvalidRequestError:  # nor can it be read
            return Guess(num_frames=0, lengths=())
        num_visual = num_frames * grid**2
        words = [sum(len(m.text.split()) for m in record.messages) for record in item.records]
        return Guess(num_frames=num_frames, lengths=tuple(num_visual + 4 * n // 3 for n in words))

    def _sample_fps(self, rng: random.Random) -> float:
        return self._config.sample_fps or rng.choice(RANDOM_SAMPLE_FPS)

    def _read_frames(self, item: Item, rng: random.Random) -> NDArray[np.uint8]:
        sample_fps = self._sample_fps(rng)
        counts_frames = any(
            record.positive_frames is not None or record.frame_targets is not None
            for record in item.records
        )
        return self.frames.read(item.media, sample_fps=sample_fps, keeps_all=counts_frames)

    def _grid(self, item: Item, num_frames: int, rng: random.Random | None) -> int:
        if item.media is None:  # its one visual token has no effect
            return 1
        budget = self._config.vision_token_num
        if rng is None:
            return grid_side(num_frames, vision_token_num=budget, side=self._side)
        return draw_grid(
            num_frames,
            rng=rng,
            vision_token_num=budget,
            vision_min_num=self._config.vision_min_num,
            side=self._side,
        )

    def _text(self, record: Record, item: Item, *, num_frames: int, grid: int) -> Text:
        """Raise InvalidRequestError for a fault of the record."""
        if record.frame_targets != item.records[0].frame_targets:
            raise InvalidRequestError(
                "frame_targets must be those of the first record that is read with this one, "
                f"{item.records[0].name}"
            )
        if self._conversations is not None:
            text = self._conversations.text(record.messages, has_media=item.media is not None)
        else:
            assert record.positive_frames is not None
            words = self._questions.text_ids(record.messages[0].text)
            text = Text(
                ids=np.concatenate([[IMAGE_TOKEN_ID], words]),
                labels=frame_labels(record.positive_frames, num_frames=num_frames),
            )
        num_visual, num_text = num_frames * grid**2, len(text.ids) - 1
        if num_visual + num_text > self._config.max_length:
            raise InvalidRequestError(
                f"{num_visual} visual and {num_text} text tokens are more than "
                f"max_length = {self._config.max_length}"
            )
        return text


def draw_grid(
    num_frames: int, *, rng: random.Random, vision_token_num: int, vision_min_num: int, side: int
) -> int:
    """Draw the side g of the token grid of one forward pass in training; see `grid_choices`."""
    return rng.choice(
        grid_choices(
            num_frames,
            vision_token_num=vision_token_num,
            vision_min_num=vision_min_num,
            side=side,
        )
    )


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


def _unreadable(
    number: int, path: str | None, names: Iterable[str], reason: Exception | str
) -> Unreadable:
    return Unreadable(
        item=number,
        source=f"{path or 'no media'}, record {', '.join(names)}",
        reason=" ".join(str(reason).split()),
    )
