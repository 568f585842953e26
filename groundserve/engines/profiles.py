"""The profiles: which implementation each stage has, and in which arithmetic it may run where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

from groundserve.errors import InvalidRequestError, UnsupportedError

if TYPE_CHECKING:
    from groundserve.families.plans import FrameStream

ProfileName = Literal["cpu", "torch", "vllm", "gpu", "gpu-trtllm"]
Precision = Literal["fp32", "bf16", "fp16", "int8", "int4"]
"""Arithmetic of the engines. `int8`: the vision stage's linear layers in 8 bits, the rest and the
grounding stage in float32. `int4`, of a family that answers in text: the weights of the decoder's
linear layers in 4 bits, the rest and the vision stage in float32."""
Device = Literal["cpu", "cuda"]
DecoderName = Literal["pyav", "dali"]
LibraryName = Literal["tensorrt", "tensorrt_rtx"]
"""Who builds and opens TensorRT plans; the two have formats of their own."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One way to run the three heavy stages."""

    name: ProfileName
    decoder: DecoderName
    """Demultiplexed segments -> resized frames, where it can resize them: see `decoder_of`."""
    encoder: Literal["onnxruntime", "torch", "tensorrt"]
    """Frames -> features."""
    grounder: Literal["onnxruntime", "torch", "vllm", "tensorrt", "tensorrt_llm"]
    """Features + question -> logits."""
    gpu_encoder: Literal["torch"] | None = None
    """The encoder on a GPU, where it is another one there."""
    precisions: Mapping[Device, tuple[Precision, ...]]
    """What encoder and grounder can compute in, by device; the first of each is the default."""

    def on(self, device: Device) -> Profile:
        """Return the profile as it is on a device."""
        if device == "cuda" and self.gpu_encoder is not None:
            return replace(self, encoder=self.gpu_encoder)
        return self

    @property
    def engines(self) -> set[str]:
        """The implementations of encoder and grounder."""
        return {self.encoder, self.grounder}

    @property
    def compiles(self) -> bool:
        """Whether engines are compiled for one GPU, from networks that a family has to offer."""
        return not self.engines.isdisjoint(("tensorrt", "tensorrt_llm"))

    def decoder_of(self, streams: Sequence[FrameStream]) -> DecoderName:
        """Return who decodes the frames of a model.

        DALI makes one array of them, leaves none as decoded, and has a filter near one of the
        resize rules alone.
        """
        is_dalis = all(one.size is not None and one.resize == "square" for one in streams)
        return self.decoder if is_dalis and len(streams) <= 1 else "pyav"

    def choose(
        self, device: Device | None = None, precision: Precision | None = None
    ) -> tuple[Device, Precision]:
        """Return what was asked for, or this profile's default where None.

        Args:
            device: One of `precisions`; None: the first of them.
            precision: One of the device's; None: the first of them.

        Raises:
            UnsupportedError: The profile does not offer that.
        """
        # Dicts keep their order: the first device is the default.
        chosen = device if device is not None else next(iter(self.precisions))
        if chosen not in self.precisions:
            raise UnsupportedError(
                f"profile {self.name} runs on {', '.join(self.precisions)}, got device {chosen}"
            )
        offered = self.precisions[chosen]
        if precision not in (None, *offered):
            raise UnsupportedError(
                f"profile {self.name} computes in {', '.join(offered)} on {chosen}, "
                f"got precision {precision}"
            )
        return chosen, precision or offered[0]


PROFILES: dict[str, Profile] = {
    "cpu": Profile(
        name="cpu",
        decoder="pyav",
        encoder="onnxruntime",
        grounder="onnxruntime",
        precisions={"cpu": ("fp32", "int8", "int4")},
    ),
    "torch": Profile(
        name="torch",
        decoder="pyav",
        encoder="torch",
        grounder="torch",
        precisions={"cpu": ("fp32",), "cuda": ("bf16", "fp16", "fp32")},
    ),
    "vllm": Profile(
        name="vllm",
        decoder="pyav",
        encoder="onnxruntime",
        gpu_encoder="torch",
        grounder="vllm",
        precisions={"cpu": ("fp32",), "cuda": ("bf16", "fp16", "fp32")},
    ),
    "gpu": Profile(
        name="gpu",
        decoder="dali",
        encoder="tensorrt",
        grounder="tensorrt",
        precisions={"cuda": ("bf16", "fp16")},
    ),
    "gpu-trtllm": Profile(
        name="gpu-trtllm",
        decoder="dali",
        encoder="tensorrt",
        grounder="tensorrt_llm",
        precisions={"cuda": ("bf16", "fp16")},
    ),
}


def get_profile(name: str) -> Profile:
    """Return the profile of that name.

    Raises:
        UnsupportedError: There is no such profile.
    """
    if name == "gpu-trt":
        raise UnsupportedError("the profile gpu-trt is called gpu now")
    if name not in PROFILES:
        raise UnsupportedError(f"profile must be one of {', '.join(PROFILES)}, got {name!r}")
    return PROFILES[name]


@dataclass(frozen=True, kw_only=True)
class Target:
    """What engines are built for, and how they run."""

    profile: ProfileName
    device: Device
    precision: Precision
    """Arithmetic of the engines; features are FP16 on the wire where it has 16 bits."""
    library: LibraryName | None = None
    """Of the profile's TensorRT engines, None where it has none. Triton's own backend opens plans
    of `tensorrt`; a Python model opens those of `tensorrt_rtx`, which have another format."""

    def __post_init__(self) -> None:
        """Check that they go together.

        Raises:
            UnsupportedError: There is no such profile, or it has no such device or precision.
            InvalidRequestError: Device or precision is missing; or the profile has TensorRT engines
                and no library, or none and one.
        """
        chosen = self.stages.choose(self.device, self.precision)
        if chosen != (self.device, self.precision):  # None, which the engines do not have
            raise InvalidRequestError(
                "device and precision must be given, as `Profile.choose` returns them, got "
                f"{self.device} and {self.precision}"
            )
        has_tensorrt = "tensorrt" in self.stages.engines
        offered = get_args(LibraryName) if has_tensorrt else (None,)
        if self.library not in offered:
            wanted = " or ".join(map(str, offered))
            raise InvalidRequestError(
                f"library must be {wanted} with the profile {self.profile}, got {self.library}"
            )

    @property
    def stages(self) -> Profile:
        """The implementations that the profile names."""
        return get_profile(self.profile).on(self.device)
