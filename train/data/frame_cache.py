"""Frames of videos that were decoded once, as JPEGs on disk.

    <frame_cache>/3f/3f9a41...safetensors    one file a video and rate: jpegs, offsets, ...
    <frame_cache>/.partial/                  files that are being written

Processes, ranks and runs may share a folder: a file appears whole, by a rename. What a power
failure tears has another checksum, counts as missing and is written anew. JPEG loses a little, so
what was just decoded goes through it too: a run reads the same frames whether they were there.

Shape letters: T sampled frames, S side of the resized frames.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import tempfile
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load, save

from groundserve.errors import InvalidRequestError

logger = logging.getLogger(__name__)

QUALITY = 95
"""Pillow's scale. With full colour resolution (4:4:4): a frame that was halved in size has as much
colour detail as brightness."""
_RULE = f"Pillow bicubic, JPEG {QUALITY} 4:4:4, 1"
"""What makes the frames that are sampled; changed whenever they would come out as others."""
_ABANDONED_SECONDS = 3600.0
"""Writing takes seconds; a partial file this old is a killed process's."""


class FrameCache:
    """A folder of frames; all methods may be called from any thread."""

    def __init__(self, directory: Path, *, rule: str, image_size: int) -> None:
        """Make the folder where there is none; `rule` is the name of what samples."""
        self._directory = directory
        self._partial = directory / ".partial"
        self._rule = f"{rule}, {_RULE}"
        self._image_size = image_size
        self._writes = True
        try:
            self._partial.mkdir(parents=True, exist_ok=True)
            # Here, since nothing else looks into this folder.
            _remove_abandoned(self._partial)
        except OSError as error:
            raise InvalidRequestError(
                f"cannot use frame_cache {directory}: {error.strerror}"
            ) from error

    def path(self, name: str, status: os.stat_result, *, sample_fps: float) -> Path:
        """Return where the frames of a video are kept."""
        # Not `max_frames`: the file says how many candidates there were, and `load` decides by
        # that.
        identity = [
            self._rule,
            self._image_size,
            name,  # below the media root, which machines may mount elsewhere
            status.st_size,
            status.st_mtime_ns,
            float(sample_fps),  # 1 and 1.0 are one rate, but not one JSON text
        ]
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        # 256 folders, so that none gets a name for every video.
        return self._directory / digest[:2] / f"{digest}.safetensors"

    def load(self, path: Path, *, max_frames: int) -> tuple[NDArray[np.uint8], int] | None:
        """Return uint8 (T, S, S, 3) and the number of frames at the rate, of which T were kept.

        None: there is no file, it is damaged, or it was thinned to another ceiling.
        """
        try:
            tensors = load(path.read_bytes())
            # safetensors checks its header alone: a torn page of pixels would pass, and a JPEG
            # decoder would make something of it.
            if int(tensors["checksum"][0]) != _checksum(tensors):
                raise ValueError("wrong checksum")
        # The usual case of a first epoch, which no log should mention.
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, ValueError) as error:
            logger.warning("%s is damaged, its video is decoded again: %s", path, error)
            return None
        num_candidates = int(tensors["num_candidates"][0])
        if len(tensors["frame_indices"]) != min(num_candidates, max_frames):  # another ceiling
            return None
        return _decode(tensors, self._image_size), num_candidates

    def store(
        self,
        path: Path,
        frames: NDArray[np.uint8],
        frame_indices: NDArray[np.int64],
        *,
        num_candidates: int,
    ) -> NDArray[np.uint8]:
        """Write frames, and return them as `load` will.

        A disk that takes no more is no reason to end a run: the first failure is logged, and
        nothing is written after it.
        """
        files = [_encode(frame) for frame in frames]
        tensors: dict[str, NDArray[Any]] = {
            # One tensor end to end and T + 1 offsets: frame i is jpegs[offsets[i]:offsets[i + 1]].
            "jpegs": np.frombuffer(b"".join(files), np.uint8),
            "offsets": np.cumsum([0, *map(len, files)], dtype=np.int64),
            "frame_indices": frame_indices,
            "num_candidates": np.array([num_candidates], np.int64),
        }
        tensors["checksum"] = np.array([_checksum(tensors)], np.int64)
        if self._writes:
            try:
                self._write(path, save(tensors))
            except OSError as error:
                self._writes = False
                logger.warning("cannot write %s: %s; decoding without it", path, error.strerror)
        return _decode(tensors, self._image_size)

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(exist_ok=True)
        # On the same file system, else os.replace would fail; a name of its own, as two processes
        # may write the same video.
        fd, partial = tempfile.mkstemp(dir=self._partial)
        try:
            with open(fd, "wb") as file:
                file.write(data)
            os.replace(partial, path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise


def _encode(frame: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=QUALITY, subsampling="4:4:4")
    return file.getvalue()


def _decode(tensors: Mapping[str, NDArray[Any]], image_size: int) -> NDArray[np.uint8]:
    jpegs, offsets = tensors["jpegs"], tensors["offsets"]
    frames = np.empty((len(offsets) - 1, image_size, image_size, 3), np.uint8)
    # strict=False: the last offset begins no frame
    for frame, start, stop in zip(frames, offsets, offsets[1:], strict=False):
        with Image.open(io.BytesIO(jpegs[start:stop].tobytes()), formats=("JPEG",)) as image:
            frame[:] = np.asarray(image)
    return frames


def _checksum(tensors: Mapping[str, NDArray[Any]]) -> int:
    value = 0
    for name in ("jpegs", "offsets", "frame_indices", "num_candidates"):
        value = zlib.crc32(tensors[name].tobytes(), value)
    return value


def _remove_abandoned(folder: Path) -> None:
    oldest = time.time() - _ABANDONED_SECONDS
    for path in folder.iterdir():
        with suppress(OSError):  # another process was faster, or it is another user's
            if path.stat().st_mtime < oldest:
                path.unlink()
