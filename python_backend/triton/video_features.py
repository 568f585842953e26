"""The model `video_features`: a video -> pooled features, by calls to decode and encode models."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.deadline import Deadline
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, Segments
from groundserve.options import parse_options
from python_backend.features import extract_features
from python_backend.sources import ALLOWED_ROOTS_VARIABLE, open_source, parse_allowed_roots
from python_backend.triton._context import ModelContext
from python_backend.triton._io import answer_each, call_model
from python_backend.triton._tensors import Tensors, json_tensor, read_optional_text


class TritonPythonModel:
    """Reads one video at a time; decoding of a chunk runs beside encoding of the one before."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the manifest and the allowed roots; the process that demuxes starts later."""
        context = ModelContext.load(args)
        self._manifest = context.engine.manifest
        self._limits = Limits()
        self._allowed_roots = parse_allowed_roots(
            context.parameters.get("allowed_roots", os.environ.get(ALLOWED_ROOTS_VARIABLE, ""))
        )
        self._workers = MediaWorkers(limits=self._limits)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with features or an error."""
        return answer_each(requests, self._extract, limits=self._limits)

    def finalize(self) -> None:
        """End the process that demuxes."""
        self._workers.close()

    def _extract(self, tensors: Tensors, deadline: Deadline) -> Tensors:
        options = parse_options(read_optional_text(tensors, "OPTIONS") or "", limits=self._limits)

        def decode(segments: Segments) -> NDArray[np.uint8]:
            return _call_decode(segments, deadline)

        def encode(frames: NDArray[np.uint8], pooling: NDArray[np.float32]) -> NDArray[np.float32]:
            return _call_encode(frames, pooling, deadline)

        with open_source(
            tensors.get("VIDEO"),
            read_optional_text(tensors, "VIDEO_URI"),
            allowed_roots=self._allowed_roots,
            limits=self._limits,
        ) as source:
            extracted = extract_features(
                source,
                options,
                workers=self._workers,
                manifest=self._manifest,
                decode=decode,
                encode=encode,
                limits=self._limits,
                deadline=deadline,
            )
        return {
            "FEATURES": extracted.features,
            "FRAME_INDICES": extracted.frame_indices,
            "PTS_SECONDS": extracted.pts_seconds,
            "STAGE_INFO": json_tensor(extracted.stage_info),
        }


def _call_decode(segments: Segments, deadline: Deadline) -> NDArray[np.uint8]:
    inputs: Tensors = {
        "SEGMENTS": segments.data,
        "SEGMENT_OFFSETS": segments.offsets,
        "LOCAL_FRAMES": segments.local_frames,
        "LOCAL_OFFSETS": segments.local_offsets,
    }
    return call_model("video_decode", inputs, output="PIXELS", deadline=deadline)


def _call_encode(
    frames: NDArray[np.uint8], pooling: NDArray[np.float32], deadline: Deadline
) -> NDArray[np.float32]:
    # POOL repeats the weights for every frame, so that frames are a batch dimension throughout.
    inputs: Tensors = {
        "PIXELS": frames,
        "POOL": np.repeat(pooling[np.newaxis], len(frames), axis=0),
    }
    return call_model("vision_encoder", inputs, output="FEATURES", deadline=deadline)
