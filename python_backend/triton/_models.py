"""The models of the stages, as one request of the model `front` calls them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundserve.families.vision_inputs import VisionInputs
from groundserve.media import Segments
from groundserve.runtime.deadline import Deadline
from python_backend.arrays import Array
from python_backend.decode import DecodedFrames
from python_backend.encode import repeat_plan_inputs
from python_backend.handover import offered
from python_backend.triton._cancellation import CancellationToken
from python_backend.triton._io import call_model
from python_backend.triton._tensors import Tensors, text_tensor


@dataclass(frozen=True, kw_only=True)
class StageModels:
    """Calls that end with their request."""

    inputs: VisionInputs
    deadline: Deadline
    cancellation: CancellationToken
    """Held as long as somebody waits for the request's answer."""

    def call(self, model_name: str, inputs: Tensors, *outputs: str) -> list[Any]:
        """Return the outputs of a model, in the order of their names; see `call_model`."""
        answer = call_model(
            model_name,
            inputs,
            outputs=outputs,
            deadline=self.deadline,
            cancellation=self.cancellation,
        )
        return [answer[name] for name in outputs]

    def decode(self, segments: Segments, shown: NDArray[np.bool_]) -> DecodedFrames:
        """Decode a group, as `ChunkRunner` wants it."""
        inputs: Tensors = {
            "SEGMENT_OFFSETS": segments.offsets,
            "LOCAL_FRAMES": segments.local_frames,
            "LOCAL_OFFSETS": segments.local_offsets,
            "STREAM": text_tensor(segments.stream.to_json()),
        }
        if len(self.inputs.streams) > 1:
            inputs["SHOWN"] = shown.astype(np.uint8)
        # Not as a tensor of bytes: a single group of pictures may be as large as the whole file,
        # and the regions of both models would keep that size.
        with offered(segments.data) as place:
            inputs["SEGMENTS"] = text_tensor(place)
            *streams, decoder = self.call(
                "video_decode", inputs, *self.inputs.stream_names, "DECODER"
            )
        return DecodedFrames(tuple(streams), decoder[0].decode())

    def encode(self, *inputs: Array) -> Array:
        """Encode units, as `ChunkRunner` wants it."""
        # Units are a batch dimension throughout, so that Triton may merge calls along it.
        named = dict(zip(self.inputs.names, repeat_plan_inputs(inputs), strict=True))
        features: Array
        (features,) = self.call("vision_encoder", named, "FEATURES")
        return features
