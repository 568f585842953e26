"""The frames of an item, resized as serving resizes them, by this rank's share of the cores."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from groundserve.data_record import Media
from groundserve.errors import InvalidRequestError, MediaError
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoSource
from groundserve.runtime.cpus import available_cpus
from groundserve.runtime.deadline import Deadline
from train.config import DataConfig
from train.data.frame_cache import FrameCache
from train.families.base import SampleFormat

IMAGE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""What Pillow may open; some of its other formats start programs."""
READ_SECONDS = 600.0
"""A video that takes longer is given up."""


class FrameReader:
    """Reads videos in killable processes and images in the calling thread.

    All methods may be called from any thread.
    """

    def __init__(self, config: DataConfig, samples: SampleFormat) -> None:
        """Start nothing yet.

        Raises:
            InvalidRequestError: The folder of the frame cache cannot be used.
        """
        self._media_root = config.media_root
        self._max_frames = config.max_frames
        self._samples = samples
        self._cache: FrameCache | None = None
        if config.frame_cache is not None:
            self._cache = FrameCache(
                config.frame_cache, rule=samples.rule, image_size=samples.image_size
            )
        # Training may ask for more frames than a server takes.
        self._limits = Limits(max_num_frames=max(config.max_frames, Limits.max_num_frames))
        # This rank's share of the cores: several ranks decode on one machine.
        self._workers = MediaWorkers(
            limits=self._limits, num_workers=config.num_workers, num_cpus=rank_cpus()
        )

    def read(
        self, media: Media | None, *, sample_fps: float, keeps_all: bool = False
    ) -> NDArray[np.uint8]:
        """Read one file to uint8 (T, S, S, 3), RGB; without media it is one black frame.

        `keeps_all` refuses a video of which `max_frames` leaves out candidates: labels count those.

        Raises:
            GroundserveError: It cannot be read, or not in time.
        """
        size = self._samples.image_size
        if media is None:
            return np.zeros((1, size, size, 3), np.uint8)
        path = self._media_root / media.path
        if media.kind == "image":
            return read_image(path, image_size=size)[np.newaxis]
        with VideoSource.from_path(path, limits=self._limits) as source:
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


def read_image(path: Path, *, image_size: int) -> NDArray[np.uint8]:
    """Read an image as uint8 (S, S, 3), RGB, resized as frames of videos are; no aspect is kept.

    Raises MediaError where it is damaged, of another format, or past Pillow's largest size.
    """
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            # Before it is resized: Pillow interpolates no palette, it takes the nearest pixel.
            pixels = image.convert("RGB")
    # By Pillow's documentation, and for damaged PNG (SyntaxError) by what its decoders do.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MediaError(f"cannot read the image {str(path)!r}: {error}") from None
    # A copy, since torch warns of arrays that cannot be written to.
    return np.array(pixels.resize((image_size, image_size), Image.Resampling.BICUBIC))


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
