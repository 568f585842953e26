"""What a worker of a run opens: stages, the second grounder, and the video in hand."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve import extras
from groundserve.annotate.annotation import Annotation, frame_agreement, frame_spans
from groundserve.annotate.calls import CallEndedError, Calls
from groundserve.annotate.features import ClipFeatures
from groundserve.annotate.items import Asked
from groundserve.annotate.settings import Settings
from groundserve.annotate.stages import Stages
from groundserve.answers import Answer, AnswerResult, GenerationInfo, Moment
from groundserve.arguments import Video
from groundserve.clips import clip_mp4, frame_jpegs
from groundserve.data_record import CLIP_SECONDS
from groundserve.errors import InvalidRequestError
from groundserve.evaluation.scored_records import OPTIONS, counted_frames
from groundserve.frames import FrameIndices, data_url, read_frames
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoIndex, VideoSource
from groundserve.options import AnswerOptions
from groundserve.results import VideoInfo
from groundserve.runtime.closing import Closing
from groundserve.runtime.deadline import Deadline
from groundserve.spans import DEFAULT_SPAN_THRESHOLD
from groundserve.storage import open_storage

_THUMBNAIL_SIDE = 160
_MAX_THUMBNAILS = 12


@dataclass(frozen=True, kw_only=True)
class AnnotateSource:
    """Opens an `Annotator` in each worker."""

    settings: Settings
    place: str
    """The run directory, whose calls all workers share."""
    is_shared: bool = True
    """Endpoints answer, so where they do not, that is no sign of a bad video."""

    def identity(self, options: AnswerOptions | None = None) -> dict[str, Any]:
        """Return what a run's fingerprint calls its engines."""
        return self.settings.identity

    def open(self, *, num_threads: int, limits: Limits) -> Annotator:
        """Open it, to be used as a context."""
        return Annotator(self, num_threads=num_threads, limits=limits)


class OpenedVideo:
    """A video whose frames at one a second are in memory, as JPEGs."""

    def __init__(self, path: str, index: VideoIndex, workers: MediaWorkers, rules: Any) -> None:
        """Decode; MediaError where that fails, InvalidRequestError where it is too long."""
        self.path, self.index = path, index
        self._workers = workers
        self.frame_indices = counted_frames(index.num_source_frames, index.average_fps)
        most = Limits().max_num_frames
        if index.duration_seconds > most:
            raise InvalidRequestError(
                f"the video lasts {index.duration_seconds:.0f} s, and labels count at most {most} "
                "frames at one a second; cut it"
            )
        with self._source() as source:
            self.jpegs: Sequence[bytes] = frame_jpegs(
                workers,
                source,
                self.frame_indices.tolist(),
                longest_side=rules.longest_side,
                deadline=self._deadline(),
            )

    @property
    def duration_seconds(self) -> float:
        """From the first frame to the end of the last."""
        return float(self.index.duration_seconds)

    @cached_property
    def pts_seconds(self) -> NDArray[np.float64]:
        """float64 (T,), when each frame is shown, from the first on."""
        times = self.index.pts_seconds
        return np.asarray(times[self.frame_indices] - times[0])

    def clip_mp4(self, clip: int) -> bytes:
        """Return a clip as a file."""
        bounds = [*self.frame_indices[::CLIP_SECONDS].tolist(), self.index.num_source_frames]
        start, end = self.index.pts_seconds[[bounds[clip], bounds[clip + 1] - 1]].tolist()
        with self._source() as source:
            return clip_mp4(self._workers, source, start, end, deadline=self._deadline())

    def _source(self) -> VideoSource:
        return VideoSource.from_path(self.path, limits=Limits())

    @staticmethod
    def _deadline() -> Deadline:
        return Deadline.after(Limits().max_request_seconds * 10)


class Annotator(Closing):
    """Annotates videos; an `Answerer` for a batch's workers, whose answers are JSON."""

    def __init__(self, source: AnnotateSource, *, num_threads: int, limits: Limits) -> None:
        settings = self._settings = source.settings
        self._video: tuple[tuple[Any, ...], OpenedVideo] | None = None
        with ExitStack() as held:
            self._workers = held.enter_context(MediaWorkers(limits=limits, num_workers=1))
            pool = held.enter_context(ThreadPoolExecutor(settings.concurrency))
            calls = held.enter_context(Calls(settings, open_storage(source.place)))
            # Now, before anything was paid for.
            rules = settings.rules
            features = ClipFeatures(rules.clip_model) if rules.thins else None
            self._stages = Stages(settings=settings, calls=calls, features=features, map=pool.map)
            self._verifier: Any = None
            if settings.verifier is not None:
                opened = settings.verifier.open(num_threads=num_threads, limits=limits)
                self._verifier = held.enter_context(opened)
            self._held = held.pop_all()

    def ask(
        self,
        video: Video,
        queries: str | Sequence[str] = (),
        options: AnswerOptions | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> AnswerResult:
        """Return the annotations of each query, which `ItemParser` made, as JSON text."""
        opened = self._opened(str(video))
        answers: list[Answer] = []
        timing: dict[str, float] = {}
        for query in [queries] if isinstance(queries, str) else queries:
            started = time.perf_counter()
            notes = self._annotate(opened, Asked.of(query))
            timing["models"] = timing.get("models", 0.0) + 1000 * (time.perf_counter() - started)
            answers.append(_answer(query, notes))
        return AnswerResult(
            video=str(video),
            info=_info(opened, self._settings, timing),
            frame_indices=opened.frame_indices,
            pts_seconds=opened.pts_seconds,
            answers=answers,
            generation=GenerationInfo(
                prefix_tokens=0,
                prompt_tokens=0,
                generated_tokens=0,
                seed=None,
                time_range_seconds=None,
                stop_reasons=tuple(one.stop_reason for one in answers),
                is_read=(True,) * len(answers),
            ),
        )

    def frames(
        self, video: Video, frame_indices: FrameIndices, *, longest_side: int | None = None
    ) -> NDArray[np.uint8]:
        """Decode frames, as `read_frames` does."""
        return read_frames(video, frame_indices, longest_side=longest_side)

    def close(self) -> None:
        """End what is under way."""
        self._held.close()

    def _opened(self, path: str) -> OpenedVideo:
        """Return a video; the last one is kept, for its questions come one after another."""
        facts = os.stat(path)
        key = (path, facts.st_size, facts.st_mtime_ns)
        if self._video is None or self._video[0] != key:
            limits = Limits()
            with (
                VideoSource.from_path(path, limits=limits) as source,
                self._workers.open(
                    source, deadline=Deadline.after(limits.max_request_seconds)
                ) as found,
            ):
                index = found.index
            self._video = key, OpenedVideo(path, index, self._workers, self._settings.rules)
        return self._video[1]

    def _annotate(self, video: OpenedVideo, asked: Asked | None) -> list[Annotation]:
        try:
            questions = [asked] if asked else self._stages.propose(video)
        except CallEndedError as ended:
            return [Annotation(question="", answer="", state=ended.state, message=str(ended))]
        notes = [self._stages.annotate(one, video) for one in questions]
        for note in notes:
            note.spans = frame_spans(note, video.pts_seconds, video.duration_seconds)
            note.thumbnails = [_thumbnail(video.jpegs[it]) for it in note.frames[:_MAX_THUMBNAILS]]
            if self._verifier is not None and note.state == "success" and not note.dropped:
                others = self._ground(video, note.question)
                note.agreement = frame_agreement(note, others, len(video.jpegs))
        return notes

    def _ground(self, video: OpenedVideo, question: str) -> list[int]:
        """Return the frames that the second grounder finds."""
        assert self._settings.verifier is not None
        if self._settings.verifier.head == "frames":
            result = self._verifier.score(video.path, [question], OPTIONS)
            if not np.array_equal(result.frame_indices, video.frame_indices):
                raise InvalidRequestError(
                    "the second grounder samples other frames than labels count; verify with "
                    "VideoITG or a family that answers in text"
                )
            is_found = result.queries[0].frame_scores >= DEFAULT_SPAN_THRESHOLD
        else:
            (answer,) = self._verifier.ask(video.path, [question]).answers
            times, is_found = video.pts_seconds, np.zeros(len(video.jpegs), bool)
            for moment in answer.moments:
                is_found |= (times >= moment.start_seconds) & (times <= moment.end_seconds)
        return [int(frame) for frame in np.flatnonzero(is_found)]


def read_annotations(text: str) -> list[Annotation]:
    """Read what `Annotator.ask` answered."""
    return [
        Annotation(**{**one, "spans": list(map(tuple, one["spans"]))}) for one in json.loads(text)
    ]


def _answer(query: str, notes: Sequence[Annotation]) -> Answer:
    is_cut = any(note.state == "truncated" for note in notes)
    return Answer(
        query=query,
        task="moment",
        prompt_token_ids=np.zeros(0, np.int32),
        token_ids=np.zeros(0, np.int32),
        text=json.dumps([asdict(note) for note in notes], ensure_ascii=False),
        moments=tuple(
            Moment(start_seconds=start, end_seconds=end, text=note.question)
            for note in notes
            for start, end in note.spans
        ),
        stop_reason="length" if is_cut else "eos",
    )


def _info(video: OpenedVideo, settings: Settings, timing_ms: dict[str, float]) -> VideoInfo:
    return VideoInfo(
        num_source_frames=video.index.num_source_frames,
        fps=video.index.average_fps,
        duration_seconds=video.duration_seconds,
        num_frames=len(video.jpegs),
        engine=settings.identity,
        decoders=["pyav"],
        cache_hit=False,
        keyframe_shift_seconds=0.0,
        video_bytes=os.stat(video.path).st_size,
        timing_ms=timing_ms,
    )


def _thumbnail(jpeg: bytes) -> str:
    image = extras.PIL.Image.open(io.BytesIO(jpeg))
    image.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60)
    return data_url(buffer.getvalue())
