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
from functools import lru_cache
from typing import Any, cast

import numpy as np

from groundserve import extras
from groundserve.annotate.annotation import Annotation, frame_agreement, frame_spans
from groundserve.annotate.calls import CallEndedError, Calls
from groundserve.annotate.items import Asked
from groundserve.annotate.settings import Settings
from groundserve.annotate.stages import Stages
from groundserve.annotate.thinning import ClipFeatures
from groundserve.annotate.video import OpenedVideo
from groundserve.answers import Answer, AnswerResult, GenerationInfo
from groundserve.batch.engines import EngineSource
from groundserve.errors import InvalidRequestError
from groundserve.evaluation.scored_records import OPTIONS
from groundserve.frames import as_jpeg, data_url, shrink
from groundserve.limits import Limits
from groundserve.media import MediaWorkers
from groundserve.options import AnswerOptions
from groundserve.results import VideoInfo
from groundserve.runtime.closing import Closing
from groundserve.scorer import Answerer
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

    def open(self, *, num_threads: int, limits: Limits) -> Answerer:
        """Open it, to be used as a context."""
        return cast(Answerer, Annotator(self, num_threads=num_threads, limits=limits))


class Annotator(Closing):
    """Annotates videos; to a batch's workers an `Answerer`, whose answers are JSON."""

    def __init__(self, source: AnnotateSource, *, num_threads: int, limits: Limits) -> None:
        settings = self._settings = source.settings
        rules, verifier = settings.rules, settings.verifier
        with ExitStack() as held:
            workers = held.enter_context(MediaWorkers(limits=limits))
            pool = held.enter_context(ThreadPoolExecutor(settings.concurrency))
            calls = held.enter_context(Calls(settings, open_storage(source.place)))
            # Read now, before anything was paid for.
            features = None if rules.choice == "all" else ClipFeatures(rules.clip_model)
            self._stages = Stages(settings=settings, calls=calls, features=features, map=pool.map)
            self._verifier: Any = verifier and held.enter_context(
                verifier.open(num_threads=num_threads, limits=limits)
            )
            # The last one is kept, for its questions come one after another.
            self._open = lru_cache(maxsize=1)(
                lambda path: OpenedVideo(path, workers, longest_side=rules.longest_side)
            )
            self._held = held.pop_all()

    def ask(
        self,
        path: str,
        queries: Sequence[str],
        options: AnswerOptions | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> AnswerResult:
        """Return the annotations of each query, which `ItemParser` made, as JSON text."""
        started, video = time.perf_counter(), self._open(path)
        read = time.perf_counter()
        answers = [_answer(query, self._annotate(video, query)) for query in queries]
        timing = {"read": 1000 * (read - started), "models": 1000 * (time.perf_counter() - read)}
        return AnswerResult(
            video=path,
            info=VideoInfo(
                num_source_frames=video.index.num_source_frames,
                fps=video.index.average_fps,
                duration_seconds=video.duration_seconds,
                num_frames=len(video.jpegs),
                engine=self._settings.identity,
                decoders=["pyav"],
                cache_hit=False,
                keyframe_shift_seconds=0.0,
                video_bytes=os.stat(path).st_size,
                timing_ms=timing,
            ),
            frame_indices=video.frame_indices,
            pts_seconds=video.pts_seconds,
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

    def close(self) -> None:
        """End what is under way."""
        self._held.close()

    def _annotate(self, video: OpenedVideo, query: str) -> list[Annotation]:
        try:
            asked = [Asked(*json.loads(query))] if query else self._stages.propose(video)
        except CallEndedError as ended:
            return [Annotation(question="", answer="", state=ended.state, dropped=str(ended))]
        notes = [self._stages.annotate(one, video) for one in asked]
        for note in notes:
            note.spans = frame_spans(note, video.pts_seconds, video.duration_seconds)
            note.thumbnails = [_thumbnail(video.jpegs[it]) for it in note.frames[:_MAX_THUMBNAILS]]
            if self._verifier is not None and not note.dropped:
                others = self._ground(video, note.question)
                note.agreement = frame_agreement(note, others, len(video.jpegs))
        return notes

    def _ground(self, video: OpenedVideo, question: str) -> list[int]:
        """Return the frames that the second grounder finds."""
        times, is_found = video.pts_seconds, np.zeros(len(video.jpegs), bool)
        if cast(EngineSource, self._settings.verifier).head == "text":
            (answer,) = self._verifier.ask(video.path, [question]).answers
            for one in answer.moments:
                is_found |= (times >= one.start_seconds) & (times <= one.end_seconds)
        else:
            result = self._verifier.score(video.path, [question], OPTIONS)
            if not np.array_equal(result.frame_indices, video.frame_indices):
                raise InvalidRequestError(
                    "the second grounder samples other frames than labels count; verify with "
                    "VideoITG or a family that answers in text"
                )
            is_found = result.queries[0].frame_scores >= DEFAULT_SPAN_THRESHOLD
        return [int(frame) for frame in np.flatnonzero(is_found)]


def read_annotations(text: str) -> list[Annotation]:
    """Read what `Annotator.ask` answered."""
    return [Annotation(**one) for one in json.loads(text)]


def _answer(query: str, notes: Sequence[Annotation]) -> Answer:
    return Answer(
        query=query,
        task="moment",
        prompt_token_ids=np.zeros(0, np.int32),
        token_ids=np.zeros(0, np.int32),
        text=json.dumps([asdict(note) for note in notes], ensure_ascii=False),
        moments=(),
        stop_reason="eos",
    )


def _thumbnail(jpeg: bytes) -> str:
    frame = np.asarray(extras.PIL.Image.open(io.BytesIO(jpeg)))
    return data_url(as_jpeg(shrink(frame, _THUMBNAIL_SIDE), quality=60))
