"""The model `video_features`: a video -> features, by calls to decode and encode models."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.deadline import Deadline
from groundserve.families.vision_inputs import VisionInputs
from groundserve.heartbeat import start_heartbeat
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, Segments
from python_backend.arrays import Array
from python_backend.cache import CacheConfig, FeatureCache
from python_backend.chunks import NUM_SERVED_ENCODES
from python_backend.decode import DecodedFrames
from python_backend.encode import repeat_plan_inputs
from python_backend.fair_share import FairShare
from python_backend.features import FeatureExtractor, VideoFeatures
from python_backend.handover import offered
from python_backend.sources import ALLOWED_ROOTS_VARIABLE, open_source, parse_allowed_roots
from python_backend.triton._answer import Answer
from python_backend.triton._asked import open_reader
from python_backend.triton._cancellation import Lifeline
from python_backend.triton._context import ModelContext
from python_backend.triton._io import answer_each, call_model
from python_backend.triton._metrics import Metrics
from python_backend.triton._report import observe_log, observe_metrics
from python_backend.triton._stage_info import StageInfo
from python_backend.triton._tensors import Tensors, read_optional_text

_MAX_URI_BYTES = 16 * 1024
"""More than the longest path of Linux (4,096 bytes) takes with each byte escaped."""


class TritonPythonModel:
    """Reads one video at a time; decoding for a chunk runs beside encoding of the two before."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the operator's settings; the process that demuxes starts later."""
        context = ModelContext.load(args)
        metrics = Metrics()
        self._observers = [observe_metrics(metrics), observe_log("video_features")]
        self._limits = Limits.from_environment()
        self._allowed_roots = parse_allowed_roots(
            # Bytes either way: names in the environment need not be UTF-8, see `sources`.
            context.parameters["allowed_roots"].encode()
            if "allowed_roots" in context.parameters
            else os.environb.get(os.fsencode(ALLOWED_ROOTS_VARIABLE), b"")
        )
        manifest = self._manifest = context.engine.manifest
        self._inputs = VisionInputs.of(manifest.seam, manifest.model)
        self._read_asked = open_reader(context.engine, self._limits)
        cache = CacheConfig.from_environment()
        self._extractor = FeatureExtractor(
            workers=MediaWorkers(limits=self._limits),
            manifest=manifest,
            limits=self._limits,
            cache=FeatureCache(cache, meter=metrics) if cache else None,
            meter=metrics,
            num_encodes=NUM_SERVED_ENCODES,
            share=FairShare.from_environment(
                num_instances=context.num_instances,
                num_decoders=int(context.parameters["num_decoders"]),
                light_pixels=int(context.parameters["light_pixels"]),
            ),
        )
        start_heartbeat()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with features or an error."""
        return answer_each(requests, self._extract, limits=self._limits, observers=self._observers)

    def finalize(self) -> None:
        """End the process that demuxes."""
        self._extractor.workers.close()

    def _extract(self, tensors: Tensors, deadline: Deadline) -> Answer:
        # Before the video: what is wrong with options and questions is found before it is opened.
        options, asked = self._read_asked(tensors)

        # `lifeline` and `deadline` are those of the `with` below, bound when a chunk is decoded.
        def decode(segments: Segments, shown: NDArray[np.bool_]) -> DecodedFrames:
            return _call_decode(segments, shown, self._inputs, deadline, lifeline)

        def encode(*inputs: Array) -> Array:
            return _call_encode(inputs, self._inputs, deadline)

        with (
            Lifeline.tied_to(deadline) as (lifeline, deadline),
            open_source(
                tensors.get("VIDEO"),
                read_optional_text(tensors, "VIDEO_URI", max_bytes=_MAX_URI_BYTES),
                allowed_roots=self._allowed_roots,
                limits=self._limits,
            ) as source,
        ):
            extracted = self._extractor.extract(
                source,
                options,
                asked=asked,
                decode=decode,
                encode=encode,
                deadline=deadline,
            )
        return self._answer(extracted, deadline, goes_on=asked is not None)

    def _answer(self, extracted: VideoFeatures, deadline: Deadline, *, goes_on: bool) -> Answer:
        info = extracted.stage_info
        seen = extracted.seen if self._manifest.head == "text" else None
        return Answer(
            outputs={
                "FEATURES": extracted.features,
                "FRAME_INDICES": extracted.frame_indices,
                "PTS_SECONDS": extracted.pts_seconds,
                "STAGE_INFO": StageInfo(facts=info, deadline=deadline, seen=seen).to_tensor(),
            },
            timing_ms=extracted.info.timing_ms,
            # With a question another step follows; without one, the cache was to be filled.
            report=None if goes_on else info,
        )


def _call_decode(
    segments: Segments,
    shown: NDArray[np.bool_],
    vision: VisionInputs,
    deadline: Deadline,
    lifeline: Lifeline,
) -> DecodedFrames:
    inputs: Tensors = {
        "SEGMENT_OFFSETS": segments.offsets,
        "LOCAL_FRAMES": segments.local_frames,
        "LOCAL_OFFSETS": segments.local_offsets,
        "STREAM": np.array([segments.stream.to_json().encode()], np.object_),
    }
    if len(vision.streams) > 1:
        inputs["SHOWN"] = shown.astype(np.uint8)
    # Not as the tensor SEGMENTS: a single group of pictures may be as large as the whole file, and
    # the regions of both models would keep that size.
    with offered(segments.data) as reference:
        inputs["SEGMENTS_MEMORY"] = np.array([reference.encode()], np.object_)
        answer = call_model(
            "video_decode",
            inputs,
            outputs=(*vision.stream_names, "DECODER"),
            deadline=deadline,
            lifeline=lifeline,
        )
    streams = tuple(answer[name] for name in vision.stream_names)
    return DecodedFrames(streams, answer["DECODER"][0].decode())


def _call_encode(inputs: Sequence[Array], vision: VisionInputs, deadline: Deadline) -> Array:
    # Units are a batch dimension throughout, so that Triton may merge calls along it.
    tensors: Tensors = dict(zip(vision.names, repeat_plan_inputs(inputs), strict=True))
    answer = call_model("vision_encoder", tensors, outputs=("FEATURES",), deadline=deadline)
    features: Array = answer["FEATURES"]
    return features
