"""A video in hand: its frames at one a second, and its clips."""

from __future__ import annotations

from groundserve.clips import clip_mp4, frame_jpegs
from groundserve.data_record import CLIP_SECONDS
from groundserve.errors import InvalidRequestError
from groundserve.evaluation.scored_records import counted_frames
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoSource
from groundserve.runtime.deadline import Deadline

_READ_SECONDS = 600.0


class OpenedVideo:
    """A video whose T frames at one a second are in memory, as JPEGs."""

    def __init__(self, path: str, workers: MediaWorkers, *, longest_side: int) -> None:
        """Decode; MediaError where that fails, InvalidRequestError where it is too long."""
        self.path, self._workers = path, workers
        most, deadline = Limits().max_num_frames, Deadline.after(_READ_SECONDS)
        with self._source() as source:
            with workers.open(source, deadline=deadline) as video:
                self.index = video.index
            self.duration_seconds = float(self.index.duration_seconds)
            if self.duration_seconds > most:
                raise InvalidRequestError(
                    f"the video lasts {self.duration_seconds:.0f} s, and labels count at most "
                    f"{most} frames at one a second; cut it"
                )
            self.frame_indices = counted_frames(
                self.index.num_source_frames, self.index.average_fps
            )
            self.pts_seconds = self.index.pts_seconds[self.frame_indices]
            places = self.frame_indices.tolist()
            self.jpegs = frame_jpegs(
                workers, source, places, longest_side=longest_side, deadline=deadline
            )

    def clip_mp4(self, clip: int) -> bytes:
        """Return a clip as a file."""
        bounds = [*self.frame_indices[::CLIP_SECONDS].tolist(), self.index.num_source_frames]
        start, end = self.index.pts_seconds[[bounds[clip], bounds[clip + 1] - 1]].tolist()
        with self._source() as source:
            deadline = Deadline.after(_READ_SECONDS)
            return clip_mp4(self._workers, source, start, end, deadline=deadline)

    def _source(self) -> VideoSource:
        return VideoSource.from_path(self.path, limits=Limits())
