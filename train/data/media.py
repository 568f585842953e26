"""The frames of an item, resized as serving resizes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from groundserve.deadline import Deadline
from groundserve.errors import InvalidRequestError, MediaError
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, OpenVideo, VideoSource
from groundserve.sampling import sample_frames
from train.cpus import rank_cpus
from train.data.record import Media

IMAGE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""What Pillow may open; some of its other formats start programs."""
READ_SECONDS = 600.0
"""A video that takes longer is given up."""


class FrameReader:
    """Reads videos in killable processes and images in the calling thread.

    All methods may be called from any thread.
    """

    def __init__(
        self, media_root: Path, *, image_size: int, max_frames: int, num_workers: int
    ) -> None:
        """Start nothing yet.

        Args:
            media_root: Folder that media paths start from.
            image_size: Side S of the frames.
            max_frames: Ceiling n of sampling rule A.
            num_workers: Videos that are read at one time.
        """
        self._media_root = media_root
        self._image_size = image_size
        self._max_frames = max_frames
        self._limits = Limits(max_num_frames=max(max_frames, Limits.max_num_frames))
        self._workers = MediaWorkers(
            limits=self._limits, num_workers=num_workers, num_cpus=rank_cpus()
        )

    def read(
        self, media: Media | None, *, sample_fps: float, keeps_all: bool = False
    ) -> NDArray[np.uint8]:
        """Read one file.

        Args:
            media: A video, sampled by rule A; an image, T = 1; None, a black frame, T = 1.
            sample_fps: Rate f of rule A.
            keeps_all: Refuse a video of which rule A leaves out candidates: labels count those.

        Returns:
            uint8 (T, S, S, 3), RGB.

        Raises:
            GroundserveError: It cannot be read, or not in time.
        """
        size = self._image_size
        if media is None:
            return np.zeros((1, size, size, 3), np.uint8)
        path = self._media_root / media.path
        if media.kind == "image":
            return read_image(path, image_size=size)[np.newaxis]
        deadline = Deadline.after(READ_SECONDS)
        with (
            VideoSource.from_path(path, limits=self._limits) as source,
            self._workers.open(source, deadline=deadline) as video,
        ):
            frame_indices = self._sample(video, sample_fps, keeps_all=keeps_all)
            return video.decode(video.cut(frame_indices), image_size=size)

    def close(self) -> None:
        """End the processes, also amid a video, which then raises UnavailableError."""
        self._workers.close()

    def _sample(self, video: OpenVideo, sample_fps: float, *, keeps_all: bool) -> NDArray[np.int64]:
        num_source_frames, fps = video.index.num_source_frames, video.index.average_fps

        def sample(num_frames: int) -> NDArray[np.int64]:
            return sample_frames(
                num_source_frames,
                fps,
                sampling="infer",
                sample_fps=sample_fps,
                num_frames=num_frames,
            )

        # With room for every source frame the rule returns all its candidates.
        candidates = sample(num_source_frames)
        if len(candidates) <= self._max_frames:
            return candidates
        if keeps_all:
            raise InvalidRequestError(
                f"the video gives {len(candidates)} frames at {sample_fps:g} frames per second, "
                f"more than max_frames = {self._max_frames}; its labels would name other frames "
                "than those kept, so raise max_frames or cut the video"
            )
        return sample(self._max_frames)


def read_image(path: Path, *, image_size: int) -> NDArray[np.uint8]:
    """Read an image as RGB (S, S, 3), resized as frames of videos are; aspect is not kept.

    Raises:
        MediaError: It is missing, damaged, of another format, or past Pillow's largest size.
    """
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            pixels = image.convert("RGB")
    # By Pillow's documentation, and for damaged PNG (SyntaxError) by what its decoders do.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MediaError(f"cannot read the image {str(path)!r}: {error}") from None
    return np.array(pixels.resize((image_size, image_size), Image.Resampling.BICUBIC))
