"""From a video to features: probe, sample, then decode and encode what is not cached."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from groundserve.engines.manifest import Manifest
from groundserve.errors import GroundserveError
from groundserve.families.plans import SeenVideo, VideoPlan
from groundserve.families.vision_inputs import VisionInputs
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, OpenVideo, VideoIndex, VideoSource
from groundserve.options import AnswerOptions, ScoreOptions
from groundserve.results import VideoInfo
from groundserve.runtime.deadline import Deadline
from groundserve.runtime.progress import OnFrames
from python_backend.arrays import Array, is_finite
from python_backend.cache import CacheKeys, Features, VideoCache
from python_backend.chunks import ChunkRunner, DecodeFunction
from python_backend.encode import EncodeFunction
from python_backend.encoded import EncodedVideo
from python_backend.fair_share import FairShare
from python_backend.meter import Meter, count_deaths
from python_backend.stopwatch import Stopwatch
from python_backend.units import decoded_pixels

if TYPE_CHECKING:
    from python_backend.answers import Prompts
    from python_backend.ground import Questions

Asked: TypeAlias = "Questions | Prompts"
"""What will be asked about a video, held against its plan before anything is decoded."""


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoFeatures:
    """One video, ready for any number of questions."""

    features: Array
    """(U, P, D), units of the plan: float32, or float16 from an engine of 16 bits."""
    frame_indices: NDArray[np.int64]
    """int64 (T,), source ordinals, never falling; strictly increasing for a head of frames."""
    pts_seconds: NDArray[np.float64]
    """float64 (T,), when each frame is shown."""
    seen: SeenVideo
    """What a head of text must know beside the features."""
    info: VideoInfo
    """What the answer says of the video; its timing is that of the stages so far."""

    def info_with(self, timing_ms: dict[str, float]) -> dict[str, Any]:
        """Return `info` as JSON values, with the milliseconds of further stages."""
        return {**self.info.to_json(), "timing_ms": {**self.info.timing_ms, **timing_ms}}


@dataclass(frozen=True, kw_only=True)
class FeatureExtractor:
    """Everything of one process that requests share."""

    workers: MediaWorkers
    manifest: Manifest
    limits: Limits
    cache: Features | None
    """Features of earlier requests, None to compute always."""
    meter: Meter
    num_encodes: int = 1
    """Chunks of one request encoded at once. More than one pays where the encoder is behind a
    queue, as a model of the server is: then copying one hides behind encoding the other."""
    share: FairShare | None = None
    """What costly videos may hold of a server; all of it where None."""

    def extract(
        self,
        source: VideoSource,
        options: ScoreOptions | AnswerOptions,
        *,
        asked: Asked | None,
        decode: DecodeFunction,
        encode: EncodeFunction,
        deadline: Deadline,
        on_frames: OnFrames | None = None,
    ) -> VideoFeatures:
        """Find or compute the features of the frames that the options sample.

        `asked` is held against the plan before any decoding. Of several requests for the same
        features, also in other processes that share the cache, one computes and the others wait.
        """
        # Before anything is opened: what is wrong with a request costs it nothing else.
        options.check(self.limits)
        watch = Stopwatch()
        runner = self._runner(decode, encode, watch, deadline, on_frames)
        inputs = runner.inputs
        cached = self._cached(source, watch)
        is_hit = True
        index = cached.load_index()
        plan = self._plan(index, inputs, options, asked) if index else None
        encoded = cached.load(plan) if plan else None
        if plan is None or encoded is None:
            # Before the lock of the features: who waits for a worker and holds that could wait for
            # itself.
            with self._open(source, watch, deadline) as video:
                if plan is None:
                    cached.save_index(video.index)
                    plan = self._plan(video.index, inputs, options, asked)
                # Who waits for another's features holds an instance too: the seat comes first.
                with self._admitted(runner, plan), cached.locked(plan, deadline):
                    encoded = cached.load(plan)
                    if encoded is None:
                        is_hit = False
                        encoded = runner.run(video, plan)
                        self._check(encoded, plan)
                        cached.save(plan, encoded)
        return self._result(source, plan, encoded, is_hit=is_hit, timing_ms=watch.timing_ms)

    def _result(
        self,
        source: VideoSource,
        plan: VideoPlan,
        encoded: EncodedVideo,
        *,
        is_hit: bool,
        timing_ms: dict[str, float],
    ) -> VideoFeatures:
        return VideoFeatures(
            features=encoded.features,
            frame_indices=plan.frame_indices,
            pts_seconds=plan.pts_seconds,
            seen=plan.seen,
            info=VideoInfo(
                num_source_frames=plan.index.num_source_frames,
                fps=plan.index.average_fps,
                duration_seconds=plan.index.duration_seconds,
                num_frames=plan.num_frames,
                facts=plan.facts,
                engine=self.manifest.identity,
                decoders=encoded.decoders,
                cache_hit=is_hit,
                keyframe_shift_seconds=plan.shift_seconds,
                video_bytes=source.size_bytes,
                timing_ms=timing_ms,
            ),
        )

    def _cached(self, source: VideoSource, watch: Stopwatch) -> VideoCache:
        if self.cache is None:
            return VideoCache()
        with watch.measure("cache"):  # hashes an upload
            identity = source.identity
        keys = CacheKeys(identity=identity, manifest=self.manifest, limits=self.limits)
        return self.cache.of(keys, watch)

    def _plan(
        self,
        index: VideoIndex,
        inputs: VisionInputs,
        options: ScoreOptions | AnswerOptions,
        asked: Asked | None,
    ) -> VideoPlan:
        family, model = self.manifest.seam, self.manifest.model
        inputs.check_aspect(index.width, index.height)
        plan = family.plan(index, options, model, self.limits)
        if family.head == "frames":
            assert (np.diff(plan.frame_indices) > 0).all(), "a head of frames takes each frame once"
        assert plan.num_visual_tokens <= model.max_feature_tokens, "memory is set aside for fewer"
        if asked is not None:
            asked.check_fit(plan)
        return plan

    def _runner(
        self,
        decode: DecodeFunction,
        encode: EncodeFunction,
        watch: Stopwatch,
        deadline: Deadline,
        on_frames: OnFrames | None,
    ) -> ChunkRunner:
        return ChunkRunner(
            decode=decode,
            encode=encode,
            inputs=VisionInputs.of(self.manifest.seam, self.manifest.model),
            num_encodes=self.num_encodes,
            # What a decoder's address space is made for: see `groundserve.media._memory`.
            max_segment_bytes=self.limits.max_upload_bytes,
            watch=watch,
            meter=self.meter,
            deadline=deadline,
            on_frames=on_frames,
        )

    def _check(self, encoded: EncodedVideo, plan: VideoPlan) -> None:
        """Find a family's bug: what a question must fit beside was told before any decoding."""
        num_tokens = encoded.features.shape[0] * encoded.features.shape[1]
        if self.manifest.seam.head == "frames":
            assert num_tokens == plan.num_visual_tokens, "the plan tells the tokens"
        # Before a head of text there may be more, or fewer: its front pools them to its own number.
        most = self.manifest.model.max_feature_tokens
        assert num_tokens <= most, "memory is set aside for fewer"
        # Behind here it would look like a caller's fault, and stay in the cache.
        if not is_finite(encoded.features):
            raise GroundserveError("the encoder returned features that are not finite")

    @contextmanager
    def _admitted(self, runner: ChunkRunner, plan: VideoPlan) -> Iterator[None]:
        """Hold what the server has for costly videos, where the plan makes this one of them."""
        most_frames = runner.inputs.chunk_frames(plan.index.width, plan.index.height)
        num_pixels = decoded_pixels(plan, most_frames=most_frames)
        with ExitStack() as stack:
            if self.share is not None and num_pixels > self.share.light_pixels:
                with runner.watch.measure("wait"):
                    stack.enter_context(self.share.admit(num_pixels, runner.deadline))
            yield

    @contextmanager
    def _open(
        self, source: VideoSource, watch: Stopwatch, deadline: Deadline
    ) -> Iterator[OpenVideo]:
        # Only opening is booked as "probe", the block that uses the video is not.
        with ExitStack() as stack:
            with watch.measure("probe"), count_deaths(self.meter):
                video = stack.enter_context(self.workers.open(source, deadline=deadline))
            yield video
