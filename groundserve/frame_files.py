"""The selected frames of an answer as image files in a folder, with an index of them.

talk-1a2b3c4d_q1_r02_0041s250.png    video talk, question 1, second best frame, shown at 41.250 s
talk-1a2b3c4d_index.jsonl            a line for each image; it appears last

docs/score.md has the fields of the index.
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from groundserve import extras
from groundserve.errors import GroundserveError, InvalidRequestError
from groundserve.files import append_whole, locked
from groundserve.frames import iterate_frames
from groundserve.limits import Limits
from groundserve.results import QueryResult, ScoreResult
from groundserve.runtime.deadline import Deadline
from groundserve.selection import best_first

ImageFormat = Literal["png", "jpeg"]

SUFFIXES: dict[ImageFormat, str] = {"png": ".png", "jpeg": ".jpg"}
_SAVE_OPTIONS: dict[ImageFormat, dict[str, Any]] = {
    # Lossless at any level; at 1 a frame of 1080p takes a quarter of the time that 6 takes.
    "png": {"compress_level": 1},
    "jpeg": {"subsampling": "4:4:4"},
}
DEFAULT_QUALITY = 95
"""Quality of a JPEG, as Pillow counts it."""
_MAX_STEM_BYTES = 100
"""Most bytes of a video's name in a file's: file systems allow 255 for all of it."""


class FrameFiles:
    """Writes the selected frames of one video into a folder, all of them or none.

    Frames of other questions about it may be there: those that are written count on from them.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        video: str | os.PathLike[str],
        *,
        queries: Sequence[str] = (),
        image_format: ImageFormat = "png",
    ) -> None:
        """Check that the folder can be written to, or made by `write`.

        Images of other videos may be in it. The questions are given as far as they are known;
        `write` looks at those it is given. JPEGs have quality 95, their colour is not subsampled.

        Raises:
            InvalidRequestError: It is no folder, cannot be written to, or has frames of this video
                for one of the questions, or without an index; or the format is unknown.
        """
        if image_format not in get_args(ImageFormat):
            raise InvalidRequestError(
                f"the format of frames must be one of {', '.join(get_args(ImageFormat))}, "
                f"got {image_format!r}"
            )
        self._directory = Path(directory)
        self._video = Path(video)
        self._format: ImageFormat = image_format
        self._prefix = file_prefix(self._video)
        self._index = self._directory / f"{self._prefix}_index.jsonl"
        try:
            places = (self._directory, *self._directory.parents)
            place = next(path for path in places if os.path.lexists(path))
            TemporaryFile(dir=place).close()  # nothing of it is left, also after a kill
        except OSError as error:
            raise self._cannot_write(error) from error
        taken = next(self._directory.glob(f"{glob.escape(self._prefix)}_*"), None)
        if taken and not self._index.exists():
            raise InvalidRequestError(
                f"{taken} exists: frames of this video were written there before; remove "
                f"{self._prefix}_* or name another folder"
            )
        self._count_questions(queries)

    def write(self, result: ScoreResult) -> Path:
        """Decode each selected frame once, and write an image for each question that selected it.

        Images are made in a hidden folder inside, and moved when the last is complete. Each frame
        may take `Limits.max_request_seconds`. The index that is returned is JSON Lines, by
        question, then time.

        Raises:
            InvalidRequestError: A file of that name, or frames of one of the questions, have
                appeared meanwhile; nothing of them is changed.
            GroundserveError: The disk is full, or the folder can no longer be written to; or as
                `read_frames`.
        """
        queries = [query.query for query in result.queries]
        counted = self._count_questions(queries)
        entries = self._entries(result, num_before=counted[0])
        # A video's name need not be UTF-8; escaped, it is JSON still.
        text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
        lines = text.encode("utf-8", "backslashreplace")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(prefix=f".{self._prefix}_", dir=self._directory) as folder:
                self._write_images(Path(folder), entries)
                with locked(self._index):
                    if self._count_questions(queries) != counted:
                        raise InvalidRequestError(
                            f"{self._index} has changed meanwhile: another process wrote frames of "
                            "this video; give the same command again"
                        )
                    self._move([Path(folder, entry["file"]) for entry in entries], lines)
        except GroundserveError:  # some are OSErrors too
            raise
        except OSError as error:
            raise self._cannot_write(error, GroundserveError) from error
        return self._index

    def _cannot_write(
        self, error: OSError, kind: type[GroundserveError] = InvalidRequestError
    ) -> GroundserveError:
        return kind(f"cannot write frames to {self._directory}: {error.strerror}")

    def _count_questions(self, queries: Sequence[str]) -> tuple[int, int]:
        """Return the highest number of a question in the index, and its bytes; 0 without one."""
        try:
            data = self._index.read_bytes()
            asked = {
                entry["query"]: entry["question"] for entry in map(json.loads, data.splitlines())
            }
        except FileNotFoundError:
            return 0, 0
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidRequestError(
                f"{self._index} cannot be read as an index of frames ({error}); remove "
                f"{self._prefix}_* or name another folder"
            ) from error
        for query in queries:
            if query in asked:
                raise InvalidRequestError(
                    f"{self._index} has frames of the question {query!r} already; remove "
                    f"{self._prefix}_* or name another folder"
                )
        return max(asked.values(), default=0), len(data)

    def _entries(self, result: ScoreResult, *, num_before: int) -> list[dict[str, Any]]:
        queries = result.queries
        question_digits = len(str(num_before + len(queries)))
        rank_digits = len(str(max(len(query.selected_frames) for query in queries)))
        last_seconds = max(float(query.selected_seconds.max()) for query in queries)
        second_digits = len(str(int(max(0.0, last_seconds))))
        return [
            {
                "file": f"{self._prefix}_q{question:0{question_digits}d}_r{rank:0{rank_digits}d}_"
                f"{clock_text(seconds, second_digits)}{SUFFIXES[self._format]}",
                "video": result.video,
                "question": question,
                "query": query.query,
                "rank": rank,
                "frame_index": ordinal,
                "seconds": seconds,
                "score": score,
            }
            for question, query in enumerate(queries, start=num_before + 1)
            for rank, ordinal, seconds, score in ranked_frames(query, result.frame_indices)
        ]

    def _write_images(self, folder: Path, entries: list[dict[str, Any]]) -> None:
        names: dict[int, list[str]] = {}
        for entry in entries:
            names.setdefault(entry["frame_index"], []).append(entry["file"])
        deadline = Deadline.after(Limits().max_request_seconds * len(names))
        frames = iterate_frames(self._video, sorted(names), deadline=deadline)
        with closing(frames):
            for ordinal, frame in zip(sorted(names), frames, strict=True):
                image = encode_image(frame, self._format)
                for name in names[ordinal]:
                    (folder / name).write_bytes(image)

    def _move(self, paths: Sequence[Path], lines: bytes) -> None:
        """Move files out of a folder inside, and add lines to the index: all of it or nothing."""
        made = [] if self._index.exists() else [self._index]
        try:
            for path in paths:
                target = self._directory / path.name
                if target.exists():
                    raise InvalidRequestError(
                        f"{target} exists: another process was killed as it wrote frames of this "
                        "video; remove that file or name another folder"
                    )
                made.append(target)
                os.replace(path, target)
            with self._index.open("ab") as file:
                append_whole(file, lines)
        except BaseException:
            for path in made:
                path.unlink(missing_ok=True)
            raise


def file_prefix(video: Path) -> str:
    """Return what the names of a video's files begin with: a readable part, and eight characters.

    The eight are of the SHA-256 of its absolute path, links resolved: the same for the same file
    however it is named, other for its namesakes in other folders.
    """
    path = os.fsencode(os.path.realpath(video))
    return f"{readable_name(video.stem) or 'video'}-{hashlib.sha256(path).hexdigest()[:8]}"


def readable_name(text: str) -> str:
    """Return what a file's name may hold of a text, at most 100 bytes of it; may be empty.

    Letters and digits of any script, `-` and `_` are kept; all else becomes `_`.
    """
    words = re.sub(r"[^\w-]+", "_", text)  # nor surrogates: bytes that are not UTF-8
    # A leading hyphen would be an option to whoever is given the name.
    return words.encode()[:_MAX_STEM_BYTES].decode(errors="ignore").strip("_-")


def ranked_frames(
    query: QueryResult, frame_indices: NDArray[np.int64]
) -> Iterator[tuple[int, int, float, float]]:
    """Yield rank, ordinal, seconds and score of each selected frame, in time order.

    `frame_indices` is int64 (T,), the ordinals of all sampled frames, increasing.
    """
    positions = np.searchsorted(frame_indices, query.selected_frames)
    ranks = np.empty(len(positions), np.int64)
    ranks[best_first(query.frame_logits[positions])] = np.arange(1, len(positions) + 1)
    yield from zip(
        ranks.tolist(),
        query.selected_frames.tolist(),
        query.selected_seconds.tolist(),
        query.frame_scores[positions].tolist(),
        strict=True,
    )


def clock_text(seconds: float, digits: int) -> str:
    """Return a moment as a file's name has it: `0041s250`, the seconds with so many digits."""
    # No point: some readers take what follows a name's first one for its ending.
    whole, milliseconds = divmod(max(0, round(seconds * 1000)), 1000)
    return f"{whole:0{digits}d}s{milliseconds:03d}"


def encode_image(
    frame: NDArray[np.uint8], image_format: ImageFormat, *, quality: int = DEFAULT_QUALITY
) -> bytes:
    """Return the file of a picture, uint8 (H, W, 3), RGB; `quality` is a JPEG's, 1 to 100."""
    buffer = io.BytesIO()
    # PNG takes no quality, and does not mind one.
    options = _SAVE_OPTIONS[image_format] | {"quality": quality}
    extras.PIL.Image.fromarray(frame).save(buffer, image_format.upper(), **options)
    return buffer.getvalue()
