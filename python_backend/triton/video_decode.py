"""The model `video_decode`: segments of a video -> frames of the model's size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.deadline import Deadline
from groundserve.errors import InvalidRequestError
from groundserve.families.vision_inputs import VisionInputs
from groundserve.heartbeat import start_heartbeat
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, Segments, StreamInfo
from python_backend.handover import take
from python_backend.triton._answer import Answer
from python_backend.triton._checks import check_chunk, check_shown, check_sides
from python_backend.triton._context import ModelContext
from python_backend.triton._io import answer_each
from python_backend.triton._metrics import Metrics
from python_backend.triton._tensors import Tensors, read_optional_text, read_text

_MAX_STREAM_BYTES = 4 * 1024
"""A description of 64 segments takes some hundred bytes, and ten more for each."""
_MAX_REFERENCE_BYTES = 64
"""`python_backend.handover` makes them of at most 54."""


class TritonPythonModel:
    """Decodes one chunk at a time, in a process of its own that can be killed."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the profile's decoder."""
        context = ModelContext.load(args)
        manifest = context.engine.manifest
        self._inputs = VisionInputs.of(manifest.seam, manifest.model)
        self._limits = Limits.from_environment()
        # One process: an instance decodes one chunk at a time.
        self._workers = MediaWorkers(limits=self._limits)
        self._decoder = context.engine.open_decoder(
            self._workers,
            meter=Metrics(),
            num_threads=int(context.parameters.get("num_threads", "1")),
        )
        start_heartbeat()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with frames or an error."""
        return answer_each(requests, self._decode, limits=self._limits)

    def finalize(self) -> None:
        """End the process that decodes."""
        self._workers.close()

    def _decode(self, tensors: Tensors, deadline: Deadline) -> Answer:
        check_chunk(tensors)
        stream = StreamInfo.from_json(read_text(tensors, "STREAM", max_bytes=_MAX_STREAM_BYTES))
        check_sides(stream, limits=self._limits)
        self._check_chunk_bytes(len(tensors["LOCAL_FRAMES"]), stream)
        segments = Segments(
            data=_read_segments(tensors),
            offsets=tensors["SEGMENT_OFFSETS"],
            local_frames=tensors["LOCAL_FRAMES"],
            local_offsets=tensors["LOCAL_OFFSETS"],
            stream=stream,
        )
        shown = check_shown(tensors, streams=self._inputs.streams)
        decoded = self._decoder.decode(segments, shown=shown, deadline=deadline)
        return Answer(
            outputs={
                **dict(zip(self._inputs.stream_names, decoded.streams, strict=True)),
                "DECODER": np.array([decoded.decoder.encode()], np.object_),
            }
        )

    def _check_chunk_bytes(self, num_targets: int, stream: StreamInfo) -> None:
        """Refuse more frames than memory is set aside for; ours are never more."""
        most = self._inputs.chunk_frames(stream.width, stream.height)
        if num_targets > most:
            raise InvalidRequestError(
                f"LOCAL_FRAMES must have at most {most} targets of {stream.width} x "
                f"{stream.height} pixels, got {num_targets}"
            )


def _read_segments(tensors: Tensors) -> NDArray[np.uint8]:
    reference = read_optional_text(tensors, "SEGMENTS_MEMORY", max_bytes=_MAX_REFERENCE_BYTES)
    # Both are optional in the configuration: SEGMENTS for callers outside, a reference from our
    # own.
    if (reference is None) == ("SEGMENTS" not in tensors):
        raise InvalidRequestError("give exactly one of SEGMENTS and SEGMENTS_MEMORY")
    return take(reference) if reference is not None else tensors["SEGMENTS"]
