"""All stages in one process: what the CLI, the batch scorer and the tests call."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundserve.answers import AnswerResult, OnText
from groundserve.arguments import (
    Video,
    check_answer_options,
    check_answer_queries,
    check_head,
    check_options,
    check_queries,
    check_timeout,
    check_video,
    video_name,
)
from groundserve.engines.manifest import Manifest
from groundserve.engines.profiles import Device
from groundserve.errors import InvalidRequestError, RequestCancelledError, UnavailableError
from groundserve.families.base import QueryTokenizer
from groundserve.frames import FrameIndices, read_frames
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, Segments, VideoSource
from groundserve.options import AnswerOptions, ScoreOptions
from groundserve.results import ScoreResult, VideoInfo, build_score_result
from groundserve.runtime.closing import Closing
from groundserve.runtime.cpus import available_cpus
from groundserve.runtime.deadline import Deadline
from groundserve.spans import DEFAULT_SPAN_GAP_SECONDS, DEFAULT_SPAN_THRESHOLD, check_span_options
from python_backend.arrays import Array
from python_backend.cache import Features
from python_backend.checkpoint import CheckpointStages
from python_backend.decode import DecodedFrames, FrameDecoder
from python_backend.encode import VisionEncoder
from python_backend.engine import EngineDirectory
from python_backend.features import Asked, FeatureExtractor, VideoFeatures
from python_backend.ground import Grounder, Questions
from python_backend.heads import FramesHead, Stages, TextHead, open_head
from python_backend.meter import Counts, Meter
from python_backend.select import select_for_questions
from python_backend.stopwatch import Stopwatch


# Compared and shown as what it is, an open resource: not field by field.
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Pipeline(Closing):
    """Answer questions about videos with the same objects that the Triton models use.

    A family of head "frames" is asked with `score`, one of head "text" with `ask`.

    Opens its engines or weights once. For one thread at a time, though any may call `close`; not to
    be used after a fork.

    Examples:
        >>> with Pipeline.open("engines") as pipeline:
        ...     result = pipeline.score("talk.mp4", "When does she point at the chart?")
        ...     result.queries[0].selected_seconds
    """

    manifest: Manifest
    """The engine directory's; its `files` are empty when made from a checkpoint."""
    extractor: FeatureExtractor
    """Decode and vision stages together; its workers are closed with the pipeline."""
    decoders: MediaWorkers
    """Processes that decode, none of the extractor's: an open video would wait for itself."""
    decoder: FrameDecoder
    encoder: VisionEncoder
    head: FramesHead | TextHead
    limits: Limits
    _is_closed: threading.Event = field(default_factory=threading.Event, init=False, repr=False)
    _process_id: int = field(default_factory=os.getpid, init=False, repr=False)

    @classmethod
    def open(
        cls,
        engine_dir: str | Path,
        *,
        limits: Limits | None = None,
        num_threads: int | None = None,
        verify_files: bool = True,
        cache: Features | None = None,
        meter: Meter | None = None,
    ) -> Pipeline:
        """Load an engine directory, as `groundserve build` writes it.

        Args:
            engine_dir: The directory.
            limits: Defaults where None.
            num_threads: Threads of each engine, of PyTorch's together, and at most of FFmpeg's; all
                cores that this process may use where None.
            verify_files: Hash every file first.
            cache: Where features of earlier videos are kept; nowhere where None.
            meter: Where work is counted; nowhere where None.

        Raises:
            InvalidRequestError: There is no such directory, or `num_threads` is below 1.
            EngineMismatchError: The directory does not match its manifest or this version.
            MissingExtraError: What its profile needs is not installed.
        """
        _check_threads(num_threads)
        engine = EngineDirectory.load(engine_dir, verify_files=verify_files)
        return cls._open(engine, limits=limits, num_threads=num_threads, cache=cache, meter=meter)

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: str | Path,
        *,
        vision_tower: str | Path | None = None,
        family: str | None = None,
        parts: Mapping[str, Sequence[str | Path]] | None = None,
        device: Device | None = None,
        limits: Limits | None = None,
        num_threads: int | None = None,
        cache: Features | None = None,
        meter: Meter | None = None,
    ) -> Pipeline:
        """Load a checkpoint as it is, profile `torch`, without an engine directory.

        Args:
            checkpoint: Directory in the layout of its family's reference, or a hub id.
            vision_tower: Directory or hub id of the vision tower, where not found beside it.
            family: Name of the family; recognised where None.
            parts: Of what the checkpoint consists of, by the family's `part_names`, that which is
                not to be looked for in it: files or directories in order.
            device: "cuda" to run on a GPU, in bf16; the CPU in fp32 where None.
            limits: As `open` takes it; so are all others.
            num_threads: Threads of PyTorch, in the whole process.
            cache: As `open`.
            meter: As `open`.

        Raises:
            InvalidRequestError: The checkpoint cannot be read, or `num_threads` is below 1.
            UnsupportedError: No family computes this model.
            MissingExtraError: PyTorch or transformers is not installed.
        """
        _check_threads(num_threads)
        opened = CheckpointStages.open(
            checkpoint, vision_tower=vision_tower, family=family, parts=parts, device=device
        )
        return cls._open(opened, limits=limits, num_threads=num_threads, cache=cache, meter=meter)

    @classmethod
    def _open(
        cls,
        stages: Stages,
        *,
        limits: Limits | None,
        num_threads: int | None,
        cache: Features | None,
        meter: Meter | None,
    ) -> Pipeline:
        limits = limits or Limits()
        meter = meter or Counts()
        num_threads = available_cpus() if num_threads is None else num_threads
        encoder = stages.open_encoder(num_threads=num_threads)
        head = open_head(stages, limits=limits, meter=meter, num_threads=num_threads)
        decoders = MediaWorkers(limits=limits, num_cpus=num_threads)
        return cls(
            manifest=stages.manifest,
            extractor=FeatureExtractor(
                workers=MediaWorkers(limits=limits, num_cpus=num_threads),
                manifest=stages.manifest,
                limits=limits,
                cache=cache,
                meter=meter,
            ),
            decoders=decoders,
            decoder=stages.open_decoder(decoders, meter=meter, num_threads=num_threads),
            encoder=encoder,
            head=head,
            limits=limits,
        )

    @property
    def grounder(self) -> Grounder:
        """Grounding stage of a family of head "frames"."""
        return self._frames_head.grounder

    @property
    def tokenizer(self) -> QueryTokenizer:
        """Tokenizer of a family of head "frames"."""
        return self._frames_head.tokenizer

    def score(
        self,
        video: Video,
        queries: str | Sequence[str],
        options: ScoreOptions | None = None,
        *,
        span_threshold: float = DEFAULT_SPAN_THRESHOLD,
        span_gap_seconds: float = DEFAULT_SPAN_GAP_SECONDS,
        timeout_seconds: float | None = None,
    ) -> ScoreResult:
        """Score the frames of one video for one or more questions.

        The arguments are those of `Client.score`, without what concerns a server. The time is at
        most `limits.max_request_seconds`, also where none is given.

        Raises:
            InvalidRequestError: The request breaks a rule; its subclass MediaError where the video
                cannot be read, UnsupportedError where the family answers in text.
            DeadlineExceededError: The time has passed; looked at between chunks of frames and
                between questions.
            UnavailableError: A decoder process died.
            RequestCancelledError: The pipeline is closed, or was meanwhile.
        """
        video = check_video(video)
        texts = check_queries(queries)
        options = check_options(options)
        check_span_options(span_threshold, span_gap_seconds)
        head = self._frames_head
        watch = Stopwatch()
        with self._open_for(timeout_seconds) as deadline:
            questions = head.parse(texts)
            extracted = self.features(video, options, asked=questions, deadline=deadline)
            with watch.measure("ground"):
                frame_logits = head.ground(extracted.features, questions, deadline=deadline)
            with watch.measure("select"):
                selection = select_for_questions(
                    frame_logits, extracted.frame_indices, options, deadline=deadline
                )
        return build_score_result(
            texts,
            video=video_name(video),
            info=_timed(extracted, watch),
            frame_indices=extracted.frame_indices,
            pts_seconds=extracted.pts_seconds,
            frame_logits=frame_logits,
            frame_scores=selection.frame_scores,
            selected_frames=selection.selected_frames,
            span_threshold=span_threshold,
            span_gap_seconds=span_gap_seconds,
        )

    def ask(
        self,
        video: Video,
        queries: str | Sequence[str] = (),
        options: AnswerOptions | None = None,
        *,
        on_text: OnText | None = None,
        timeout_seconds: float | None = None,
    ) -> AnswerResult:
        """Answer one or more questions about one video in text; otherwise as `score`.

        The arguments are those of `Client.ask`, without what concerns a server. Where the time
        passes after the first token of an answer, that one ends there, and those after it are
        empty.

        Raises:
            InvalidRequestError: The request breaks a rule; its subclass MediaError where the video
                cannot be read, UnsupportedError where the family scores frames, or has no such task
                or option.
            DeadlineExceededError: The time has passed before the first token.
            UnavailableError: A decoder process died.
            RequestCancelledError: The pipeline is closed, or was meanwhile.
        """
        video = check_video(video)
        texts = check_answer_queries(queries)
        options = check_answer_options(options)
        head = self._text_head
        watch = Stopwatch()
        with self._open_for(timeout_seconds) as deadline:
            prompts = head.parse(texts, options)
            extracted = self.features(video, options, asked=prompts, deadline=deadline)
            with watch.measure("generate"):
                answers = head.answer(
                    extracted.features,
                    prompts,
                    extracted.seen,
                    deadline=deadline,
                    on_text=on_text,
                )
        return AnswerResult(
            video=video_name(video),
            info=_timed(extracted, watch),
            frame_indices=extracted.frame_indices,
            pts_seconds=extracted.pts_seconds,
            answers=answers.answers,
            generation=answers.generation,
        )

    def frames(
        self,
        video: Video,
        frame_indices: FrameIndices,
        *,
        longest_side: int | None = None,
    ) -> NDArray[np.uint8]:
        """Decode frames of a video, such as `QueryResult.selected_frames`.

        Returns:
            uint8 (K, H, W, 3), RGB, in time order; see `groundserve.frames.read_frames`, also for
            the arguments and the errors.
        """
        return read_frames(video, frame_indices, longest_side=longest_side, limits=self.limits)

    def features(
        self,
        video: Video,
        options: ScoreOptions | AnswerOptions,
        *,
        asked: Asked | None = None,
        deadline: Deadline,
    ) -> VideoFeatures:
        """Decode and encode; see `FeatureExtractor.extract`."""

        def decode(segments: Segments, shown: NDArray[np.bool_]) -> DecodedFrames:
            return self.decoder.decode(segments, shown=shown, deadline=deadline)

        if isinstance(video, bytes):
            opened = VideoSource.from_bytes(video, limits=self.limits)
        else:
            opened = VideoSource.from_path(video, limits=self.limits)
        with opened as source:
            return self.extractor.extract(
                source,
                options,
                asked=asked,
                decode=decode,
                encode=self.encoder.encode,
                deadline=deadline,
            )

    def ground(
        self, features: Array, queries: Sequence[str], *, deadline: Deadline
    ) -> NDArray[np.float32]:
        """Return float32 (Q, T); see `ground_questions`."""
        head = self._frames_head
        return head.ground(features, head.parse(queries), deadline=deadline)

    def parse_questions(self, queries: Sequence[str]) -> Questions:
        """Check and tokenize questions; see `Questions.parse`."""
        return self._frames_head.parse(queries)

    def close(self) -> None:
        """End the worker processes, and the calls that are under way in other threads."""
        if os.getpid() != self._process_id:  # the workers are the other process's
            return
        self._is_closed.set()
        self.extractor.workers.close()
        self.decoders.close()
        if isinstance(self.head, TextHead):
            self.head.generator.close()

    @property
    def _frames_head(self) -> FramesHead:
        check_head(self.manifest.family, self.manifest.head, called="frames")
        assert isinstance(self.head, FramesHead), "open_head opens the family's"
        return self.head

    @property
    def _text_head(self) -> TextHead:
        check_head(self.manifest.family, self.manifest.head, called="text")
        assert isinstance(self.head, TextHead), "open_head opens the family's"
        return self.head

    @contextmanager
    def _open_for(self, timeout_seconds: float | None) -> Iterator[Deadline]:
        """Yield the deadline of one call, which also ends with the pipeline."""
        seconds = self.limits.max_request_seconds
        if timeout_seconds is not None:
            seconds = min(seconds, check_timeout(timeout_seconds))
        if os.getpid() != self._process_id:  # the workers hear the other process, too
            raise InvalidRequestError("a Pipeline must be used in the process that made it")
        if self._is_closed.is_set():
            raise RequestCancelledError("the pipeline is closed")
        try:
            yield Deadline.after(seconds, is_cancelled=self._is_closed.is_set)
        except (RequestCancelledError, UnavailableError) as error:
            if not self._is_closed.is_set():
                raise
            raise RequestCancelledError(
                "the request was cancelled: its pipeline was closed"
            ) from error


def _timed(extracted: VideoFeatures, watch: Stopwatch) -> VideoInfo:
    """Return what is known of the video, with the time of all stages and of the whole call."""
    timing_ms = {**extracted.info.timing_ms, **watch.timing_ms, "total": watch.elapsed_ms}
    return replace(extracted.info, timing_ms=timing_ms)


def _check_threads(num_threads: int | None) -> None:
    if num_threads is not None and num_threads < 1:
        raise InvalidRequestError(f"num_threads must be >= 1, got {num_threads}")
