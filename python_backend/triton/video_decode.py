"""The model `video_decode`: segments of a video -> frames of the model's size."""

from __future__ import annotations

from typing import Any

from groundserve.families.vision_inputs import VisionInputs
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, Segments, StreamInfo
from groundserve.runtime.deadline import Deadline
from groundserve.runtime.parent_watch import end_with_parent
from python_backend.handover import take
from python_backend.triton._context import ModelContext
from python_backend.triton._io import answer_each
from python_backend.triton._metrics import Metrics
from python_backend.triton._tensors import Tensors, text_tensor


class TritonPythonModel:
    """Decodes one group at a time, in a process of its own that can be killed."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the profile's decoder."""
        context = ModelContext.load(args)
        manifest = context.engine.manifest
        self._inputs = VisionInputs.of(manifest.seam, manifest.model)
        self._limits = Limits.from_environment()
        # One process: an instance decodes one group at a time.
        self._workers = MediaWorkers(limits=self._limits)
        self._decoder = context.engine.open_decoder(
            self._workers,
            meter=Metrics(),
            num_threads=int(context.parameters.get("num_threads", "1")),
        )
        end_with_parent()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each call with frames or an error."""
        return answer_each(requests, self._decode, limits=self._limits)

    def finalize(self) -> None:
        """End the process that decodes."""
        self._workers.close()

    def _decode(self, tensors: Tensors, deadline: Deadline) -> Tensors:
        segments = Segments(
            data=take(tensors["SEGMENTS"][0].decode()),
            offsets=tensors["SEGMENT_OFFSETS"],
            local_frames=tensors["LOCAL_FRAMES"],
            local_offsets=tensors["LOCAL_OFFSETS"],
            stream=StreamInfo.from_json(tensors["STREAM"][0].decode()),
        )
        shown = tensors["SHOWN"] == 1 if "SHOWN" in tensors else None
        decoded = self._decoder.decode(segments, shown=shown, deadline=deadline)
        return {
            **dict(zip(self._inputs.stream_names, decoded.streams, strict=True)),
            "DECODER": text_tensor(decoded.decoder),
        }
