"""The seam between a model family and training.

Shape letters: T sampled frames, S their side, P tokens of a frame, D_v width of the features.

An `Initial` has the model, its frozen vision stage, and the `SampleFormat` by which data become
`Example`s. It encodes an `Example`, the `TrainedModel` turns that into `Losses`, and the `Initial`
writes what is trained, in the layout of the family's reference.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from groundserve.data_record import Record
from groundserve.media.index import VideoIndex
from train.config import Stage, StageConfig
from train.examples import Example, Text


@dataclass(frozen=True, kw_only=True)
class SampleFlops:
    """One item, through forward and backward passes."""

    tower: float
    """The vision tower, forward alone: it is frozen."""
    decoder: float
    """All that stands behind it, with what is computed anew in the backward pass."""


@dataclass(frozen=True, kw_only=True)
class SampleCost:
    """What samples are dealt to processes by: tower and decoder's layers, forward and backward."""

    frame: float
    token: float
    """A token in the decoder's linear layers."""
    pair: float
    """Two tokens of one sequence in its attention, whose kernels compute half of them if causal."""

    def __call__(self, *, num_frames: int, lengths: Sequence[int]) -> float:
        """Return the operations of sequences of these lengths, which are padded to the longest."""
        # A padded row costs what a real one does: matrices are multiplied whole.
        longest = max(lengths, default=0)
        # Linear layers grow with the length, attention with its square.
        decoder = longest * self.token + longest**2 * self.pair
        return num_frames * self.frame + len(lengths) * decoder


class SampleFormat(Protocol):
    """How samples become what the family's model takes; may be used from any thread.

    Each method raises InvalidRequestError for a sample that it has no place for.
    """

    image_size: int
    """S."""
    rule: str
    """The name of what `sample` does, its own among all families: cached frames are of one rule."""

    def sample(
        self, index: VideoIndex, *, sample_fps: float, max_frames: int | None
    ) -> NDArray[np.int64]:
        """Return int64 (T,), increasing ordinals in the source of the frames to be decoded.

        T has no ceiling where `max_frames` is None: those are the candidates, which labels count.
        """

    def tokens_per_frame(self, num_frames: int) -> int:
        """Return P for a video of T frames as serving encodes it."""

    def drawn_tokens_per_frame(self, num_frames: int) -> Sequence[int]:
        """Return the P that training draws from, each as likely as it is often there."""

    def text(self, record: Record, *, has_media: bool) -> Text:
        """Tokenize a record, with targets in the stages that write text and without labels."""


@dataclass(frozen=True, kw_only=True)
class Losses:
    """What one forward pass gives."""

    loss: Tensor
    """float32 (), to be minimised."""
    parts: dict[str, Tensor] = field(default_factory=dict)
    """Its terms before weighting, by name, detached."""
    frame_logits: list[Tensor] = field(default_factory=list)
    """Detached float32 (T,) of each sequence in order; empty for a model that writes text."""


class TrainedModel(nn.Module):
    """What stands behind the features: all that a stage may train."""

    decoder: Any
    """From transformers; its `layers` are sharded, and computed again, one by one."""
    auxiliary: nn.Linear | None
    """Tells from each frame's states what it shows; None without that loss."""

    def float32_parts(self) -> Sequence[nn.Module]:
        """Return what is not computed in bfloat16 whatever the run's precision."""
        return ()

    @abstractmethod
    def forward(self, examples: Sequence[Example], features: Sequence[Tensor]) -> Losses:
        """Compute the loss of a batch of any T, P and number of texts, encoded by `Initial`."""

    @abstractmethod
    def file_name(self, parameter: str) -> str:
        """Return how the reference's files call a parameter of this name."""


class Reader(Protocol):
    """Reads items of a data file, as `train.data.reader.ItemReader` does."""

    def read(self, item: Any, *, number: int, rng: random.Random, is_training: bool) -> Any:
        """Return the `train.data.reader.Reading` of an `Item` or `MalformedRecord`."""

    def guess(self, item: Any, *, rng: random.Random) -> tuple[int, list[int]]:
        """Guess T and the length of each record's sequence without opening the file."""

    def close(self) -> None:
        """End its processes."""


@runtime_checkable
class ReadsItself(Protocol):
    """Stands for a `SampleFormat` where items are read in a way of their own."""

    def open_reader(self) -> Reader:
        """Start nothing yet."""

    def drawn_tokens_per_frame(self, num_frames: int) -> Sequence[int]:
        """Return what `SampleFormat` says."""


class Source(Protocol):
    """What a stage starts from, without weights."""

    def samples(self, config: StageConfig) -> SampleFormat | ReadsItself:
        """Return the format of a run's samples."""

    def sample_cost(self, config: StageConfig) -> SampleCost:
        """Return by what a run's samples are dealt to processes."""

    def sample_flops(
        self,
        config: StageConfig,
        *,
        num_frames: int,
        tokens_per_frame: int,
        num_text_tokens: int,
        num_targets: int,
    ) -> SampleFlops:
        """Return what one sequence costs in training, with the encoding of its frames.

        A token of the text is predicted at `num_targets` positions.
        """


class Initial(Source, Protocol):
    """What a stage starts from."""

    @property
    def model(self) -> TrainedModel:
        """float32 on the CPU, in training mode; what the stage trains requires a gradient."""

    @property
    def vision(self) -> nn.Module:
        """float32, frozen, in evaluation mode; its `config` says which attention it computes."""

    def encode(self, examples: Sequence[Example]) -> list[Tensor]:
        """Encode each to (T, P, D_v), on the device of `vision` and in its dtype."""

    def blank_example(self, *, num_auxiliary: int = 0) -> Example:
        """Return one black frame and no question, which the model gives a loss.

        A process that has nothing to read passes it through the model, since the others wait for
        it. `frame_targets` are zeros.
        """

    def write_files(self, directory: Path, state_dict: Mapping[str, Tensor]) -> None:
        """Write a checkpoint that serving, the next stage and the reference read.

        The directory is empty. Whole tensors of `model` after training are asked for one by one,
        and not held longer than it takes to write their file; the auxiliary layer's are left out.
        """


StageFunction = Callable[..., StageConfig]
"""Returns a config for `init`, `records`, `media_root`, `out` and, where given, `vision_tower`."""


class TrainingFamily(Protocol):
    """A family that can be trained."""

    stages: Mapping[Stage, StageFunction]
    """The reference's stages at full size, in order."""

    def recognises(self, raw_config: Mapping[str, Any]) -> bool:
        """Tell whether a config.json is of something that a stage starts from."""

    def open_source(self, config: StageConfig) -> Source:
        """Open what a stage starts from; no weights are read.

        Raises:
            InvalidRequestError: A directory or file is missing or unreadable.
            UnsupportedError: The model differs from what this code computes.
        """

    def open_initial(self, config: StageConfig, *, num_auxiliary: int) -> Initial:
        """Read what a stage starts from and make what is new in it; raises as `open_source`.

        The auxiliary per-frame loss has `num_auxiliary` targets; 0 leaves its layer out.
        """


class TextTrainingFamily(TrainingFamily, Protocol):
    """A family whose stages no other has, with data files of its own."""

    def recognises(self, raw_config: Mapping[str, Any]) -> bool:
        """Recognise none: its stages say that they are its own."""
        return False

    def parse_record(self, fields: Any, *, name: str) -> Record:
        """Check an entry of a data file, as JSON has it."""
