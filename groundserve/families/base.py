"""The seam between a model family and everything else; numpy alone is needed.

Shape letters: T frames as sampled, n frames decoded, each once, U units, F frames of a unit,
P tokens of a unit, D width of the features.

A *unit* is what the vision stage encodes at a time and the cache keeps: a frame, or a segment of
several. One request goes index -> `plan` -> decode each frame once, resized as each of the
`streams` says -> encode -> FEATURES (U, P, D) -> the family's head.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from groundserve.answers import Moment
from groundserve.errors import UnsupportedError
from groundserve.limits import Limits
from groundserve.media.index import VideoIndex
from groundserve.media.resize import ResizeRule
from groundserve.options import AnswerOptions, Task

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

    from groundserve.families.modules import (
        FrontModule,
        GroundingFront,
        GroundingModule,
        VisionModule,
    )

Head = Literal["frames", "text"]
"""What a family answers: one logit a frame, or text."""

FindingRow = tuple[str, Literal["ok", "warn", "fail"], str]
"""A line of `groundserve doctor`: subject, how it is (warn: works, read on; fail: something will
not work), what was found."""

VISUAL_TOKEN_ID = -200
"""In a prompt's ids, the place of the video's block; no vocabulary has it."""

DEFAULT_LIMITS = Limits()
"""Ceilings where a caller names none."""


@dataclass(frozen=True, kw_only=True)
class FrameStream:
    """One input of the vision stage: frames of each unit, in one size.

    The array is uint8 (U, S, S, 3) where a unit has one frame of it, else (U, F, S, S, 3).
    """

    name: str
    """Of the tensor, such as "PIXELS"."""
    size: int | None
    """S, side in pixels of the square frames; None: as decoded, resized in the encoder's graph."""
    resize: ResizeRule = "square"
    """How the media worker makes them so; "square", the default, where `size` is None."""
    frames: tuple[int, ...] = (0,)
    """Which frames of a unit, as places in it."""

    def shape(self, num_units: int) -> tuple[int, ...]:
        """Return the shape of the array for so many units, where `size` is fixed."""
        assert self.size is not None, "frames as decoded have no shape of their own"
        several = (len(self.frames),) if len(self.frames) > 1 else ()
        return (num_units, *several, self.size, self.size, 3)


@dataclass(frozen=True, kw_only=True)
class PlanInput:
    """One more input of the vision stage: float32, from the plan, the same for all units."""

    name: str
    """Of the tensor."""
    dims: tuple[int, ...]
    """Shape without the units; -1 varies between requests."""
    max_dims: tuple[int, ...]
    """The largest shape there is."""

    @property
    def max_bytes(self) -> int:
        """Bytes of the largest there is."""
        return math.prod(self.max_dims) * np.dtype(np.float32).itemsize


@dataclass(frozen=True, kw_only=True)
class SeenVideo:
    """What a head of text must know of a video beside its FEATURES; fields as in `VideoPlan`."""

    duration_seconds: float
    """Of the whole video."""
    num_visual_tokens: int
    """Rows of the video's block in the decoder's input."""
    time_range_seconds: tuple[float, float] | None
    """What the times in an answer are fractions of."""
    model_seconds: tuple[float, ...] | None
    """Of each of the T frames the time that the model is told."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompt:
    """One question as the decoder reads it."""

    token_ids: NDArray[np.int64]
    """int64 (L,), its beginning token included, `VISUAL_TOKEN_ID` once for the video's block."""
    num_prefix: int
    """How many of the ids, from the front, are the same whatever is asked about this video with
    these options: the block is among them, and at least one id follows."""

    @property
    def prefix_ids(self) -> NDArray[np.int64]:
        """What is computed once for all questions."""
        return self.token_ids[: self.num_prefix]

    @property
    def suffix_ids(self) -> NDArray[np.int64]:
        """What is computed for this one."""
        return self.token_ids[self.num_prefix :]


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoPlan:
    """What of one video is decoded and encoded for one request."""

    index: VideoIndex
    """Of the whole video."""
    num_frames: int
    """Ceiling on T that held: the one asked for, else the default for this checkpoint."""
    frame_indices: NDArray[np.int64]
    """int64 (T,), source ordinals as the family samples them: never falling, repeats kept."""
    units: NDArray[np.int64]
    """int64 (U, F), the frames of each unit as places in `decoded_indices`, where each is
    shown by some unit; neither a row nor a column ever falls."""
    num_visual_tokens: int
    """Tokens that the decoder sees of the video: U * P, or fewer where a text head's front pools
    them."""
    inputs: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Of each `PlanInput` its array, by name."""
    facts: Mapping[str, int] = field(default_factory=dict)
    """What the family's INFO says beside what all say."""
    shift_seconds: float = 0.0
    """How far `seek: keyframe` moved a frame at most."""
    model_seconds: NDArray[np.float64] | None = None
    """float64 (T,), the time of each frame as the model is told it; None where it is told none."""
    time_range_seconds: tuple[float, float] | None = None
    """Start and end of what the times in an answer are fractions of; None where they are seconds
    of the video, or the answer has none."""

    def __post_init__(self) -> None:
        """Find a family's bug before anything is decoded, and never blame a request for it."""
        frames, units = self.frame_indices, self.units
        assert (frames.dtype.name, frames.ndim) == ("int64", 1), "frame_indices are int64 (T,)"
        assert (units.dtype.name, units.ndim) == ("int64", 2), "units are int64 (U, F)"
        assert min(frames.size, units.size) > 0, "a plan has frames"
        assert (np.diff(frames) >= 0).all(), "frames come in the order of time"
        assert 0 <= frames[0] <= frames[-1] < self.index.num_source_frames, "frames are the video's"
        for axis in (0, 1):
            assert (np.diff(units, axis=axis) >= 0).all(), "units come in the order of time"
        places = np.arange(len(self.decoded_indices))
        assert np.array_equal(np.unique(units), places), "units show all that is decoded"

    @property
    def decoded_indices(self) -> NDArray[np.int64]:
        """int64 (n,), strictly increasing: each ordinal of `frame_indices` once."""
        return np.unique(self.frame_indices)

    @property
    def pts_seconds(self) -> NDArray[np.float64]:
        """float64 (T,), when each frame is shown."""
        return self.index.pts_seconds[self.frame_indices]

    @property
    def seen(self) -> SeenVideo:
        """What a head of text must know of it."""
        return SeenVideo(
            duration_seconds=self.index.duration_seconds,
            num_visual_tokens=self.num_visual_tokens,
            time_range_seconds=self.time_range_seconds,
            model_seconds=None if self.model_seconds is None else tuple(self.model_seconds),
        )


class ModelSpec(Protocol):
    """What serving must know of one model: a frozen dataclass of JSON values, in the manifest."""

    @property
    def feature_width(self) -> int:
        """D."""

    @property
    def max_visual_tokens(self) -> int:
        """Most tokens of a video, U * P in FEATURES: what memory is set aside for."""

    @property
    def max_tokens(self) -> int | None:
        """Visual and text tokens together; None where the checkpoint sets no limit."""


class QueryTokenizer(Protocol):
    """From a question to the tokens after the visual ones."""

    def text_ids(self, query: str) -> NDArray[np.int64]:
        """Return int64 (L,).

        Raises:
            InvalidRequestError: The question holds what stands for a video.
        """


class FamilyCheckpoint(Protocol):
    """An opened checkpoint; weights are read when a module is asked for."""

    @property
    def raw_config(self) -> dict[str, Any]:
        """config.json as parsed."""

    @property
    def folders(self) -> dict[str, Path]:
        """Name in an engine directory -> what the profile `torch` has a copy of there.

        `open_checkpoint` opens "checkpoint" again, with "vision_tower" where there is one.
        """

    def describe(self) -> dict[str, Any]:
        """Return what a manifest says of it: "name", "note" (None where it has none), "sha256".

        Also "vision_sha256", None where the vision stage's weights are among those hashed already.
        Reads every file once.
        """

    def load_tokenizer(self) -> tuple[Tokenizer, int]:
        """Return the tokenizer with every special token registered, and its padding id."""

    def model_spec(self, *, pad_token_id: int) -> ModelSpec:
        """Return what serving must know, a `Family.spec_type`."""

    def findings(self) -> Iterable[FindingRow]:
        """Return what decides this checkpoint's scores and is easily got wrong.

        What `groundserve doctor` prints beside what it finds of any family: its name, the tokens
        of a video, the tokenizer's size and the weights.
        """

    def load_vision(self, *, dtype: torch.dtype = ..., device: str = ...) -> VisionModule:
        """Read the vision stage."""

    def load_grounding(self, *, dtype: torch.dtype = ..., device: str = ...) -> GroundingModule:
        """Read what stands behind FEATURES, for a family of head "frames"."""

    def vision_flop(self) -> float:
        """Return the arithmetic of the vision stage for one unit; a multiply-add is 2."""

    def decoder_flop(self, num_tokens: int) -> float:
        """Return the arithmetic of one pass through the decoder's layers."""

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding table."""


class AnswerTokenizer(Protocol):
    """From a question to a prompt, and from generated tokens to text."""

    @property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end an answer, which has them as its last."""

    def prompt(self, query: str, options: AnswerOptions, seen: SeenVideo) -> Prompt:
        """Return the prompt of one question, in the wording of its task or raw.

        Raises:
            InvalidRequestError: The question holds what stands for a video, or the task takes
                another one: none, or one that is not empty.
        """

    def text(self, token_ids: Sequence[int]) -> str:
        """Return what was generated as the reference does: special tokens left out, stripped."""


class TextCheckpoint(Protocol):
    """An opened checkpoint of head "text"; weights are read when a module is asked for."""

    @property
    def raw_config(self) -> dict[str, Any]:
        """config.json of the decoder as parsed."""

    def copy_to(self, directory: Path) -> None:
        """Write a copy of all its parts to a directory, which `open_checkpoint` opens again.

        Args:
            directory: Exists and is empty.
        """

    def describe(self) -> dict[str, Any]:
        """Return what a manifest says of it, as `FamilyCheckpoint.describe`."""

    def load_tokenizer(self) -> tuple[Tokenizer, int]:
        """Return the tokenizer as a fast one, equal on all texts, and its padding id."""

    def model_spec(self, *, pad_token_id: int) -> ModelSpec:
        """Return what serving must know, a `Family.spec_type`."""

    def findings(self) -> Iterable[FindingRow]:
        """Return which parts there are, and what decides answers and is easily got wrong."""

    def load_vision(self, *, dtype: torch.dtype = ..., device: str = ...) -> VisionModule:
        """Read the vision stage."""

    def load_front(self, *, dtype: torch.dtype = ..., device: str = ...) -> FrontModule:
        """Read what makes the video's block of FEATURES."""

    def load_decoder(self, *, dtype: torch.dtype = ..., device: str = ...) -> PreTrainedModel:
        """Read the causal decoder of transformers, adapters merged in float32.

        `forward(inputs_embeds=, past_key_values=, ...)`; its `get_input_embeddings` is the table of
        text embeddings.
        """

    def vision_flop(self) -> float:
        """Return the arithmetic of the vision stage for one unit; a multiply-add is 2."""

    def decoder_flop(self, num_tokens: int) -> float:
        """Return the arithmetic of one pass through the decoder's layers."""

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding table."""


SpecT = TypeVar("SpecT", contravariant=True)
OptionsT = TypeVar("OptionsT", contravariant=True)


class Family(Protocol[SpecT, OptionsT]):
    """What all families have: how they see a video."""

    @property
    def name(self) -> str:
        """As in the manifest and of the public Triton model."""

    @property
    def head(self) -> Head:
        """What it answers."""

    @property
    def spec_type(self) -> type[Any]:
        """The frozen dataclass whose fields `manifest.model` has."""

    def streams(self, spec: SpecT) -> tuple[FrameStream, ...]:
        """Return the inputs of the vision stage that are frames."""

    def plan_inputs(self, spec: SpecT) -> tuple[PlanInput, ...]:
        """Return the other inputs of the vision stage, which follow its streams."""

    def plan(
        self, index: VideoIndex, options: OptionsT, spec: SpecT, limits: Limits = DEFAULT_LIMITS
    ) -> VideoPlan:
        """Sample the frames.

        Args:
            index: Of the whole video.
            options: `ScoreOptions` or `AnswerOptions`, by the head.
            spec: Of the model.
            limits: Ceilings on T.

        Raises:
            InvalidRequestError: Video, options, model and limits do not go together.
        """


class ServedFamily(Family[SpecT, OptionsT], Protocol[SpecT, OptionsT]):
    """A family that can be served, by whichever head."""

    def check_features(
        self, shape: tuple[int, ...], spec: SpecT, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        """Check the shape (U, P, D) of FEATURES, which a caller of an inner model may make up.

        Raises:
            InvalidRequestError: The vision stage never gives such.
        """

    def describe(self, facts: Mapping[str, int]) -> str:
        """Say in a few words what each frame becomes, from `VideoPlan.facts`: "25 tokens each"."""


class FramesFamily(ServedFamily[SpecT, OptionsT], Protocol[SpecT, OptionsT]):
    """A family of head "frames": its plans sample each frame once, for an answer ranks them."""

    def open_tokenizer(self, path: Path, spec: SpecT) -> QueryTokenizer:
        """Open a `tokenizer.json` as `groundserve build` writes it.

        Raises:
            MissingExtraError: The package `tokenizers` is not installed.
        """

    def recognises(self, raw_config: Mapping[str, Any]) -> bool:
        """Tell whether a config.json is of this family."""

    def open_checkpoint(
        self, path: str | Path, *, vision_tower: str | Path | None = None
    ) -> FamilyCheckpoint:
        """Open a local directory or a hub id; imports PyTorch.

        Raises:
            InvalidRequestError: No such directory, or files are missing or unreadable.
            UnsupportedError: The model differs from what this code computes.
        """


class EngineFamily(FramesFamily[SpecT, OptionsT], Protocol[SpecT, OptionsT]):
    """A family of head "frames" that engines for a GPU can be built of."""

    def read_front(self, path: Path, *, device: str) -> GroundingFront:
        """Read what stands before the decoder of a GPU engine; imports PyTorch.

        Args:
            path: `grounding_embeddings.safetensors`, as `groundserve build` writes it.
            device: `cpu`, `cuda` or `cuda:1`.

        Raises:
            EngineMismatchError: The file is unreadable or does not hold these tensors.
        """


class TextFamily(ServedFamily[SpecT, AnswerOptions], Protocol[SpecT]):
    """A family of head "text": a causal decoder that answers in words, with times."""

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What it can be asked."""

    @property
    def tasks_without_query(self) -> tuple[Task, ...]:
        """Those of its tasks that take no question, but for `raw` ones."""

    @property
    def part_names(self) -> tuple[str, ...]:
        """What a checkpoint consists of, as `--part` names it."""

    def front_inputs(self, spec: SpecT) -> tuple[PlanInput, ...]:
        """Return what `FrontModule` takes beside FEATURES; none where that is all."""

    def front_arrays(self, seen: SeenVideo, spec: SpecT) -> tuple[NDArray[np.float32], ...]:
        """Return the arrays of `front_inputs` for one video."""

    def check_seen(self, seen: SeenVideo, spec: SpecT) -> None:
        """Check what is said of the video behind FEATURES, which such a caller may make up, too.

        Raises:
            InvalidRequestError: No plan of this family says it.
        """

    def open_tokenizer(self, path: Path, spec: SpecT) -> AnswerTokenizer:
        """Open a `tokenizer.json` as `groundserve build` writes it.

        Raises:
            MissingExtraError: The package `tokenizers` is not installed.
        """

    def parse(self, text: str, task: Task, seen: SeenVideo) -> tuple[Moment, ...] | None:
        """Read the times of an answer.

        Returns:
            In the order of the text, times as it says them; () for a task without times; None where
            it says none that can be read.
        """

    def recognises(self, directory: Path) -> bool:
        """Tell whether a directory holds the parts in the layout of the reference."""

    def open_checkpoint(
        self, path: str | Path, *, parts: Mapping[str, Sequence[str | Path]] = ...
    ) -> TextCheckpoint:
        """Find the parts and open their configs; imports PyTorch.

        Args:
            path: Directory in the layout of the reference, or a copy that `copy_to` wrote.
            parts: Of `part_names` those that are not to be looked for, each with its files or
                directories in order.

        Raises:
            InvalidRequestError: A part is missing, there are several, or one cannot be read.
            UnsupportedError: The model differs from what this code computes.
        """


def units_of(frame_indices: NDArray[np.int64], *, frames_per_unit: int = 1) -> NDArray[np.int64]:
    """Divide the sampled frames into units of F that follow each other.

    Args:
        frame_indices: int64 (T,), as `VideoPlan` has them, T a multiple of F.
        frames_per_unit: F.

    Returns:
        int64 (T / F, F), as `VideoPlan.units`.
    """
    return np.unique(frame_indices, return_inverse=True)[1].reshape(-1, frames_per_unit)


def check_fixed_num_frames(family: str, num_frames: int, limits: Limits) -> None:
    """Check the ceiling on T for a family that samples as many frames of every video.

    Raises:
        UnsupportedError: The ceiling is lower.
    """
    if num_frames > limits.max_num_frames:
        raise UnsupportedError(
            f"{family} samples {num_frames} frames of every video, and this server takes at most "
            f"{limits.max_num_frames}; its operator can raise max_num_frames"
        )
