"""From a record of a family that answers in text to its example: decode, cut into units, tokenize.

Which frames are seen, and how, is what serving says of the family. Shape letters: U units, F frames
of a unit in a stream, S their side, P visual tokens of a unit, D_v width of the features.
"""

from __future__ import annotations

import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundserve.data_record import Record
from groundserve.errors import InvalidRequestError, MediaError
from groundserve.families.plans import FrameStream, SeenVideo, VideoPlan
from groundserve.media import FrameOutput, MediaWorkers, VideoIndex, VideoSource
from groundserve.runtime.deadline import Deadline
from train.config import DataConfig
from train.data.reader import (
    READ_ERRORS,
    READ_SECONDS,
    Reading,
    media_workers,
    read_image,
    unreadable,
)
from train.data.records import Item, MalformedRecord
from train.examples import Example, Text

_READS_HEADER = threading.Lock()
"""NumPy parses a file's header as Python, which threads cannot do side by side before Python 3.13:
one of them may get a SystemError (python/cpython issue 106905)."""


class TextSamples(ABC):
    """How a family's records become examples, a `train.families.base.ReadsItself`."""

    streams: tuple[FrameStream, ...]
    num_units: int
    """U of a video."""
    tokens_per_unit: int
    """P."""
    num_pooled: int | None = None
    """Visual tokens of any video, where its units' are pooled."""

    def __init__(self, config: DataConfig) -> None:
        """Refuse what is of another family."""
        if config.questions_per_video != 1:
            raise InvalidRequestError(
                "questions_per_video must be 1: this family's records are items of their own, "
                f"got {config.questions_per_video}"
            )
        if config.frame_cache is not None or config.group_by_length:
            raise InvalidRequestError("frame_cache and group_by_length are for VideoITG alone")
        self.config = config

    @abstractmethod
    def plan(self, record: Record, index: VideoIndex, rng: random.Random | None) -> VideoPlan:
        """Say which frames of a record's video are seen; `rng` is there in training alone."""

    @abstractmethod
    def text(self, record: Record, seen: SeenVideo | None) -> Text:
        """Tokenize a record, whose video is known where it was opened, up to `max_length` ids."""

    def front_arrays(self, seen: SeenVideo) -> tuple[NDArray[np.float32], ...]:
        """Return what the front takes beside features."""
        return ()

    def augment(self, frames: NDArray[np.uint8], rng: random.Random) -> NDArray[np.uint8]:
        """Return the first stream's frames as training sees them."""
        return frames

    def drawn_tokens_per_frame(self, num_frames: int) -> Sequence[int]:
        """Return P alone: nothing is drawn."""
        return (self.tokens_per_unit,)

    def open_reader(self) -> TextReader:
        """Start nothing yet."""
        return TextReader(self)


class TextReader:
    """Decodes and tokenizes; `read` may be called from any thread."""

    def __init__(self, samples: TextSamples) -> None:
        self._samples = samples
        self._root = samples.config.media_root
        self._workers: MediaWorkers = media_workers(samples.config)

    def read(
        self, item: Item | MalformedRecord, *, number: int, rng: random.Random, is_training: bool
    ) -> Reading:
        """Read one item, whose one record is either whole or unreadable."""
        if isinstance(item, MalformedRecord):
            return Reading(unreadable=(unreadable(number, item.path, [item.name], item.reason),))
        (record,) = item.records
        try:
            example = self._example(record, rng if is_training else None)
            (text,) = example.texts
            if text.targets is None or (text.targets < 0).all():
                raise InvalidRequestError("no token of an answer is left to be learnt")
        except READ_ERRORS as error:
            path = item.media.path if item.media else None
            return Reading(unreadable=(unreadable(number, path, [record.name], error),))
        return Reading(example=example, places=(0,))

    def guess(self, item: Item | MalformedRecord, *, rng: random.Random) -> tuple[int, list[int]]:
        """Return U, which is that of every video, and a length of 4 tokens for 3 words."""
        if isinstance(item, MalformedRecord):
            return 0, []
        num_words = sum(len(one.text.split()) for one in item.records[0].messages)
        samples = self._samples
        num_visual = samples.num_pooled or samples.num_units * samples.tokens_per_unit
        return samples.num_units, [num_visual + 4 * num_words // 3]

    def close(self) -> None:
        """End the processes, also amid a video, which then raises UnavailableError."""
        self._workers.close()

    def _example(self, record: Record, rng: random.Random | None) -> Example:
        assert record.media is not None, "each record of these families has something to see"
        path, samples = self._root / record.media.path, self._samples
        if record.media.kind == "features":
            features = read_features(path)
            return Example(
                frames=np.empty((len(features), 0, 0, 3), np.uint8),
                tokens_per_frame=features.shape[1],
                texts=(samples.text(record, None),),
                features=features,
            )
        if record.media.kind == "image":
            return Example(
                frames=read_image(path)[np.newaxis],
                tokens_per_frame=samples.tokens_per_unit,
                texts=(samples.text(record, None),),
            )
        deadline = Deadline.after(READ_SECONDS)
        with VideoSource.from_path(path, limits=self._workers.limits) as source:
            with self._workers.open(source, deadline=deadline) as video:
                plan = samples.plan(record, video.index, rng)
                # Before anything is decoded, as a text may be refused.
                text = samples.text(record, plan.seen)
                segments = video.cut(plan.decoded_indices)
            places = [plan.units[:, list(stream.frames)] for stream in samples.streams]
            outputs = [
                FrameOutput(
                    image_size=stream.size,
                    resize=stream.resize,
                    targets=None if stream.size is None else np.unique(shown),
                )
                for stream, shown in zip(samples.streams, places, strict=True)
            ]
            decoded = self._workers.decode_outputs(segments, outputs, deadline=deadline)
        first, *others = (
            _units(frames, shown, all_of_them=stream.size is None)
            for frames, shown, stream in zip(decoded, places, samples.streams, strict=True)
        )
        return Example(
            frames=first if rng is None else samples.augment(first, rng),
            more_streams=tuple(others),
            front_arrays=samples.front_arrays(plan.seen),
            num_pooled=samples.num_pooled,
            tokens_per_frame=samples.tokens_per_unit,
            texts=(text,),
        )


def _units(
    frames: NDArray[np.uint8], shown: NDArray[np.int64], *, all_of_them: bool
) -> NDArray[np.uint8]:
    """Gather (U, S, S, 3), or (U, F, S, S, 3), of frames that were decoded once each."""
    places = shown if all_of_them else np.searchsorted(np.unique(shown), shown)
    units: NDArray[np.uint8] = frames[places]
    return units[:, 0] if units.shape[1] == 1 else units


def read_features(path: Path) -> NDArray[np.float32]:
    """Read a NumPy file of floats: (U, D_v) for a video, (D_v,) for an image -> (U, 1, D_v)."""
    try:
        with _READS_HEADER:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise MediaError(f"cannot read the features {str(path)!r}: {error}") from None
    if not isinstance(found, np.ndarray) or found.dtype.kind != "f" or found.ndim not in (1, 2):
        raise MediaError(f"the features {str(path)!r} must be floats (U, D) or (D,)")
    features = np.atleast_2d(found).astype(np.float32)
    if not features.size or not np.isfinite(features).all():
        raise MediaError(f"the features {str(path)!r} must be finite numbers, at least one row")
    return features[:, np.newaxis]


def cut_off(text: Text, max_length: int) -> Text:
    """Leave out what is behind `max_length` ids, as the references do.

    Where that is the video itself the text is refused.
    """
    if len(text.ids) <= max_length:
        return text
    assert text.targets is not None, "these families write text"
    ids = text.ids[:max_length]
    if (ids >= 0).all():
        raise InvalidRequestError(
            f"the video's place must be among the first {max_length} text tokens (max_length)"
        )
    return Text(ids=ids, targets=text.targets[:max_length])
