"""From an item to what the model takes, or to the reason why not.

Shape letters: T sampled frames, S side of the resized frames.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from groundserve.data_record import FrameTargets, Media, Record
from groundserve.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    MediaError,
    UnavailableError,
)
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoSource
from groundserve.runtime.cpus import available_cpus
from groundserve.runtime.deadline import Deadline
from train.config import RANDOM_SAMPLE_FPS, DataConfig, Stage
from train.data.frame_cache import FrameCache
from train.data.records import Item, MalformedRecord, guess_num_frames
from train.examples import Example, Text
from train.families.base import SampleFormat

IMAGE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""What Pillow may open; some of its other formats start programs."""
READ_SECONDS = 600.0
"""A video that takes longer is given up."""
READ_ERRORS = (InvalidRequestError, DeadlineExceededError, UnavailableError)
"""What a file can cause; any other exception is a bug or a broken installation, and passes."""


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A record, or all records of an item, that nothing is learnt from."""

    item: int
    source: str
    """Media path and ids as in the data file."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What came of one item."""

    example: Example | None = None
    places: tuple[int, ...] = ()
    """Which of the item's records those are: the places of its texts, in order."""
    unreadable: tuple[Unreadable, ...] = ()


def frame_labels(positive_frames: Sequence[int], *, num_frames: int) -> NDArray[np.float32]:
    """Return float32 (T,), 1 at the ordinals given, of which each must be in [0, T)."""
    if positive_frames and max(positive_frames) >= num_frames:
        raise InvalidRequestError(
            f"frame_num must be below {num_frames}, the number of sampled frames, "
            f"got {max(positive_frames)}"
        )
    # Ordinals are >= 0 by then: `parse_record` refuses others, which would count from the end here.
    labels = np.zeros(num_frames, np.float32)
    labels[list(positive_frames)] = 1
    return labels


class ItemReader:
    """Decodes, tokenizes and labels; `read` may be called from any thread."""

    def __init__(self, config: DataConfig, *, stage: Stage, samples: SampleFormat) -> None:
        """Start nothing yet."""
        self._config = config
        self._stage = stage
        self._samples = samples
        self.frames = FrameReader(config, samples)

    def read(
        self, item: Item | MalformedRecord, *, number: int, rng: random.Random, is_training: bool
    ) -> Reading:
        """Read one item; a fault of one record leaves the item its others.

        `rng` draws the rate, if the config has none, and in training the tokens of a frame, of
        which there are otherwise as many as in serving.
        """
        if isinstance(item, MalformedRecord):
            return Reading(unreadable=(unreadable(number, item.path, [item.name], item.reason),))
        path = item.media.path if item.media else None
        try:
            frames = self._read_frames(item, rng)
            drawn_by = rng if is_training else None
            tokens_per_frame = self._tokens_per_frame(item, len(frames), drawn_by)
            frame_targets = _multi_hot(item.records[0].frame_targets, num_frames=len(frames))
        except READ_ERRORS as error:
            names = [record.name for record in item.records]
            return Reading(unreadable=(unreadable(number, path, names, error),))
        texts: dict[int, Text] = {}
        lost: list[Unreadable] = []
        for place, record in enumerate(item.records):
            try:
                texts[place] = self._text(
                    record, item, num_frames=len(frames), tokens_per_frame=tokens_per_frame
                )
            except InvalidRequestError as error:
                lost.append(unreadable(number, path, [record.name], error))
        if not texts:
            return Reading(unreadable=tuple(lost))
        example = Example(
            frames=frames,
            tokens_per_frame=tokens_per_frame,
            texts=tuple(texts.values()),
            frame_targets=frame_targets,
        )
        return Reading(example=example, places=tuple(texts), unreadable=tuple(lost))

    def guess(self, item: Item | MalformedRecord, *, rng: random.Random) -> tuple[int, list[int]]:
        """Guess T and the length of each record's sequence without opening the file.

        Rate and tokens a frame are those that `read` will draw from the same random numbers, if
        the number of frames is right; the text is taken to have 4 tokens for 3 words.
        """
        if isinstance(item, MalformedRecord):
            return 0, []
        num_frames = guess_num_frames(
            item, sample_fps=self._sample_fps(rng), max_frames=self._config.max_frames
        )
        try:
            num_visual = num_frames * self._tokens_per_frame(item, num_frames, rng)
        except InvalidRequestError:  # nor can it be read
            return 0, []
        words = [sum(len(m.text.split()) for m in record.messages) for record in item.records]
        return num_frames, [num_visual + 4 * n // 3 for n in words]

    def close(self) -> None:
        """End the processes, also amid a video."""
        self.frames.close()

    def _sample_fps(self, rng: random.Random) -> float:
        return self._config.sample_fps or rng.choice(RANDOM_SAMPLE_FPS)

    def _read_frames(self, item: Item, rng: random.Random) -> NDArray[np.uint8]:
        sample_fps = self._sample_fps(rng)
        counts_frames = any(
            record.positive_frames is not None or record.frame_targets is not None
            for record in item.records
        )
        return self.frames.read(item.media, sample_fps=sample_fps, keeps_all=counts_frames)

    def _tokens_per_frame(self, item: Item, num_frames: int, rng: random.Random | None) -> int:
        if item.media is None:  # its one visual token has no effect
            return 1
        if rng is None:
            return self._samples.tokens_per_frame(num_frames)
        return rng.choice(self._samples.drawn_tokens_per_frame(num_frames))

    def _text(self, record: Record, item: Item, *, num_frames: int, tokens_per_frame: int) -> Text:
        """Raise InvalidRequestError for a fault of the record."""
        if record.frame_targets != item.records[0].frame_targets:
            raise InvalidRequestError(
                "frame_targets must be those of the first record that is read with this one, "
                f"{item.records[0].name}"
            )
        text = self._samples.text(record, has_media=item.media is not None)
        if self._stage == "grounding":
            assert record.positive_frames is not None
            labels = frame_labels(record.positive_frames, num_frames=num_frames)
            text = replace(text, labels=labels)
        num_visual, num_text = num_frames * tokens_per_frame, len(text.ids) - 1
        if num_visual + num_text > self._config.max_length:
            raise InvalidRequestError(
                f"{num_visual} visual and {num_text} text tokens are more than "
                f"max_length = {self._config.max_length}"
            )
        return text


def media_workers(config: DataConfig) -> MediaWorkers:
    """Return the processes that decode; none is started yet."""
    # Training may ask for more frames than a server takes.
    limits = Limits(max_num_frames=max(config.max_frames, Limits.max_num_frames))
    # This rank's share of the cores: several ranks decode on one machine.
    return MediaWorkers(limits=limits, num_workers=config.num_workers, num_cpus=rank_cpus())


def unreadable(
    number: int, path: str | None, names: Iterable[str], reason: Exception | str
) -> Unreadable:
    """Return records of an item that nothing is learnt from."""
    return Unreadable(
        item=number,
        source=f"{path or 'no media'}, record {', '.join(names)}",
        reason=" ".join(str(reason).split()),
    )


def _multi_hot(targets: FrameTargets | None, *, num_frames: int) -> NDArray[np.float32] | None:
    if targets is None:
        return None
    if len(targets.frames) != num_frames:
        raise InvalidRequestError(
            f"frame_targets must have one list a sampled frame, {num_frames}, "
            f"got {len(targets.frames)}"
        )
    array = np.zeros((num_frames, targets.num), np.float32)
    # `row` is a view, so this writes into the array.
    for row, shown in zip(array, targets.frames, strict=True):
        row[list(shown)] = 1
    return array


class FrameReader:
    """Reads videos in killable processes and images in the calling thread.

    All methods may be called from any thread.
    """

    def __init__(self, config: DataConfig, samples: SampleFormat) -> None:
        """Start nothing yet."""
        self._media_root = config.media_root
        self._max_frames = config.max_frames
        self._samples = samples
        self._cache: FrameCache | None = None
        if config.frame_cache is not None:
            self._cache = FrameCache(
                config.frame_cache, rule=samples.rule, image_size=samples.image_size
            )
        self._workers = media_workers(config)

    def read(
        self, media: Media | None, *, sample_fps: float, keeps_all: bool = False
    ) -> NDArray[np.uint8]:
        """Read one file to uint8 (T, S, S, 3), RGB; without media it is one black frame.

        `keeps_all` refuses a video of which `max_frames` leaves out candidates: labels count those.
        """
        size = self._samples.image_size
        if media is None:
            return np.zeros((1, size, size, 3), np.uint8)
        path = self._media_root / media.path
        if media.kind == "image":
            return read_image(path, image_size=size)[np.newaxis]
        with VideoSource.from_path(path, limits=self._workers.limits) as source:
            return self._read_video(source, media.path, sample_fps=sample_fps, keeps_all=keeps_all)

    def close(self) -> None:
        """End the processes, also amid a video, which then raises UnavailableError."""
        self._workers.close()

    def _read_video(
        self, source: VideoSource, name: str, *, sample_fps: float, keeps_all: bool
    ) -> NDArray[np.uint8]:
        cache, cached = self._cache, None
        if cache is not None:
            # The open file's status and not the path's: what is decoded below is what it stands
            # for, even if another file takes the name meanwhile.
            cached = cache.path(name, os.fstat(source.fileno()), sample_fps=sample_fps)
            known = cache.load(cached, max_frames=self._max_frames)
            if known is not None:
                frames, num_candidates = known
                # Asked of cached frames too: the cache is shared by runs with and without labels.
                self._check_kept(num_candidates, sample_fps, keeps_all=keeps_all)
                return frames
        with self._workers.open(source, deadline=Deadline.after(READ_SECONDS)) as video:
            # Counted before anything is decoded, as labels may refuse the video.
            sample = partial(self._samples.sample, video.index, sample_fps=sample_fps)
            num_candidates = len(sample(max_frames=None))
            self._check_kept(num_candidates, sample_fps, keeps_all=keeps_all)
            indices = sample(max_frames=self._max_frames)
            frames = video.decode(video.cut(indices), image_size=self._samples.image_size)
        if cache is None or cached is None:
            return frames
        # Through JPEG, as the next epoch will read them.
        return cache.store(cached, frames, indices, num_candidates=num_candidates)

    def _check_kept(self, num_candidates: int, sample_fps: float, *, keeps_all: bool) -> None:
        if keeps_all and num_candidates > self._max_frames:
            raise InvalidRequestError(
                f"the video gives {num_candidates} frames at {sample_fps:g} frames per second, "
                f"more than max_frames = {self._max_frames}; its labels would name other frames "
                "than those kept, so raise max_frames or cut the video"
            )


def read_image(path: Path, *, image_size: int | None = None) -> NDArray[np.uint8]:
    """Read an image as uint8 (S, S, 3), RGB, resized as frames of videos are; no aspect is kept.

    Without a size it stays as it is, (H, W, 3).

    Raises MediaError where it is damaged, of another format, or past Pillow's largest size.
    """
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            # Before it is resized: Pillow interpolates no palette, it takes the nearest pixel.
            pixels = image.convert("RGB")
    # By Pillow's documentation, and for damaged PNG (SyntaxError) by what its decoders do.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MediaError(f"cannot read the image {str(path)!r}: {error}") from None
    if image_size is not None:
        pixels = pixels.resize((image_size, image_size), Image.Resampling.BICUBIC)
    # A copy, since torch warns of arrays that cannot be written to.
    return np.array(pixels)


def rank_cpus(environment: Mapping[str, str] = os.environ) -> int:
    """Return this rank's share of the cores that its processes may use, >= 1."""
    # Unset, nothing but torchrun sets it: the process is on its own.
    text = environment.get("LOCAL_WORLD_SIZE", "1")
    if not text.isdecimal() or int(text) < 1:
        raise InvalidRequestError(f"LOCAL_WORLD_SIZE must be a whole number >= 1, got {text!r}")
    num_ranks = int(text)
    if num_ranks == 1:
        return available_cpus()
    # The parent is torchrun's agent, whose children the ranks are; LOCAL_WORLD_SIZE counts those on
    # this machine. A rank that was bound to some cores (torchrun binds to the GPU's NUMA node)
    # shares them with others, and has no more than its share.
    return min(available_cpus(), max(1, available_cpus(os.getppid()) // num_ranks))
