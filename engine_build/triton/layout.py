"""What of a repository follows from the profile, the machine and the kind of model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from engine_build.triton.model_spec import DataType
from groundserve.engines.profiles import Target
from groundserve.errors import InvalidRequestError
from groundserve.families.base import Family, ModelSpec
from groundserve.families.plans import FrameStream
from groundserve.limits import MIB

_NUM_DECODERS = 2
"""Videos decoded side by side: while one is decoded another is encoded."""

_NUM_LIGHT_GROUNDERS = 2
"""Questions scored side by side where that costs little memory."""
_LIGHT_WEIGHT_BYTES = 64 * MIB
"""Weights that a second process may hold again: less than its Python and libraries take."""

_LIGHT_PIXELS = 10**9
"""What FFmpeg decodes, and Pillow resizes, in some 3 s of one core: 480 frames of 1080p."""
_LIGHT_NVDEC_PIXELS = 20 * 10**9
"""The same where NVDEC decodes: 10 s at 1,000 frames of 1080p a second. Not measured yet."""


@dataclass(frozen=True, kw_only=True)
class RepositoryLayout:
    """What decides which models there are and where they run, besides the checkpoint."""

    target: Target
    """The profile, and where and in what its engines run."""
    num_nvdec: int = 1
    """Hardware decoders of the GPU (NVDEC engines); only the decoder `dali` uses them."""

    grounder_bytes: int | None = None
    """Weights of the head's engine, a grounder's or a decoder's; None where they are not known."""

    streams: tuple[FrameStream, ...] = ()
    """Of the model's vision stage; `of_model` fills them in."""

    def __post_init__(self) -> None:
        if self.num_nvdec < 1:
            raise InvalidRequestError(f"num_nvdec must be >= 1, got {self.num_nvdec}")

    def of_model(self, family: Family[Any, Any], model: ModelSpec) -> Self:
        """Return the layout for a model."""
        return replace(self, streams=family.streams(model))

    @property
    def features_type(self) -> DataType:
        """Type of the features: FP16 also after bf16 engines, for numpy has no bf16."""
        return "FP16" if self.target.precision in ("bf16", "fp16") else "FP32"

    @property
    def uses_nvdec(self) -> bool:
        """Whether frames are decoded by the GPU."""
        return self.target.stages.decoder_of(self.streams) == "dali"

    @property
    def uses_tensorrt_backend(self) -> bool:
        """Whether the server itself runs the vision encoder.

        NVIDIA's image with TensorRT-LLM has no backend for plans. Frames as decoded are resized
        before a plan, by PyTorch in a Python model.
        """
        is_plan = self.target.profile == "gpu" and self.target.library == "tensorrt"
        return is_plan and all(stream.size is not None for stream in self.streams)

    @property
    def num_decoders(self) -> int:
        """Chunks decoded side by side, each by a process of its own.

        With one NVDEC a second process has nothing to decode on while the first does, and it costs
        a CUDA context.
        """
        return min(_NUM_DECODERS, self.num_nvdec) if self.uses_nvdec else _NUM_DECODERS

    @property
    def num_grounders(self) -> int:
        """Questions scored or answered side by side, each by a process with the decoder's weights.

        One where the weights are many: a question then fills the device, and its passes are long
        beside all else that is done for it. A decoder of few leaves a core idle while its process
        reads a request or writes an answer.
        """
        is_light = self.grounder_bytes is not None and self.grounder_bytes <= _LIGHT_WEIGHT_BYTES
        return _NUM_LIGHT_GROUNDERS if is_light and self.target.device == "cpu" else 1

    @property
    def light_pixels(self) -> int:
        """Pixels that a video decodes to at most without being costly to the others.

        See `python_backend.fair_share`.
        """
        return _LIGHT_NVDEC_PIXELS if self.uses_nvdec else _LIGHT_PIXELS

    @property
    def num_decoder_threads(self) -> int:
        """Segments of one chunk that DALI decodes side by side.

        One thread drives one NVDEC session. As many as there are NVDECs, so that a single video can
        use them all; at least two, so that one can be parsed while another is decoded.
        """
        return max(2, self.num_nvdec)
