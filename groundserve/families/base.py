"""The seam between a model family and everything else; numpy alone is needed.

Shape letters: T frames as sampled, U units, P tokens of a unit, D width of the features; see
`groundserve.families.plans`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from groundserve import extras
from groundserve.answers import Moment
from groundserve.families.parts import GivenParts
from groundserve.families.plans import (
    DEFAULT_LIMITS,
    FrameStream,
    PlanInput,
    Prompt,
    SeenVideo,
    VideoPlan,
)
from groundserve.families.transformers_version import check_transformers
from groundserve.limits import Limits
from groundserve.media.index import VideoIndex
from groundserve.options import AnswerOptions, Head, Task

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

FindingRow = tuple[str, Literal["ok", "warn", "fail"], str]
"""A line of `groundserve doctor`: subject, how it is (warn: works, read on; fail: something will
not work), what was found."""


class ModelSpec(Protocol):
    """What serving must know of one model: a frozen dataclass of JSON values, in the manifest."""

    @property
    def feature_width(self) -> int:
        """D."""

    @property
    def max_feature_tokens(self) -> int:
        """Most tokens of a video in FEATURES, U * P: what memory is set aside for."""

    @property
    def max_tokens(self) -> int | None:
        """Visual and text tokens together; None where the checkpoint sets no limit."""


class QueryTokenizer(Protocol):
    """From a question to the tokens after the visual ones."""

    def text_ids(self, query: str) -> NDArray[np.int64]:
        """Return int64 (L,); refuse a question that holds what stands for a video."""


class OpenedCheckpoint(Protocol):
    """An opened checkpoint of either head; weights are read when a module is asked for."""

    @property
    def raw_config(self) -> dict[str, Any]:
        """config.json as parsed, of a head "text" that of the decoder."""

    def describe(self) -> dict[str, Any]:
        """Return what a manifest says of it: "name", "note" (None where it has none), "sha256".

        Also "vision_sha256", None where the vision stage's weights are among those hashed already.
        Reads every file once.
        """

    def load_tokenizer(self) -> tuple[Tokenizer, int]:
        """Return a fast tokenizer with every special token registered, and its padding id."""

    def model_spec(self, *, pad_token_id: int) -> ModelSpec:
        """Return what serving must know, a `Family.spec_type`."""

    def findings(self) -> Iterable[FindingRow]:
        """Return what decides this checkpoint's results and is easily got wrong.

        `groundserve doctor` prints it beside what it finds of any family.
        """

    def load_vision(self, *, dtype: torch.dtype = ..., device: str = ...) -> VisionModule:
        """Read the vision stage."""

    def vision_flop(self) -> float:
        """Return the arithmetic of the vision stage for one unit; a multiply-add is 2."""

    def decoder_flop(self, num_tokens: int) -> float:
        """Return the arithmetic of one pass through the decoder's layers."""

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding table."""


class FamilyCheckpoint(OpenedCheckpoint, Protocol):
    """An opened checkpoint of head "frames"."""

    @property
    def folders(self) -> dict[str, Path]:
        """Name in an engine directory -> what the profile `torch` has a copy of there.

        `open_checkpoint` opens "checkpoint" again, with "vision_tower" where there is one.
        """

    def load_grounding(self, *, dtype: torch.dtype = ..., device: str = ...) -> GroundingModule:
        """Read what stands behind FEATURES."""


class TextCheckpoint(OpenedCheckpoint, Protocol):
    """An opened checkpoint of head "text"."""

    def copy_to(self, directory: Path) -> None:
        """Write a copy of all its parts to an empty directory, which `open_checkpoint` opens."""

    def load_front(self, *, dtype: torch.dtype = ..., device: str = ...) -> FrontModule:
        """Read what makes the video's block of FEATURES."""

    def load_decoder(self, *, dtype: torch.dtype = ..., device: str = ...) -> PreTrainedModel:
        """Read the causal decoder of transformers, adapters merged in float32.

        `forward(inputs_embeds=, past_key_values=, ...)`; its `get_input_embeddings` is the table of
        text embeddings.
        """


class AnswerTokenizer(Protocol):
    """From a question to a prompt, and from generated tokens to text."""

    @property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end an answer, which has them as its last."""

    def prompt(self, query: str, options: AnswerOptions, seen: SeenVideo) -> Prompt:
        """Return the prompt of one question, in the wording of its task or raw.

        `groundserve.families.check_asked` has let it pass. Control tokens that it spells are text
        but for `options.reads_control_tokens`; refused is what stands for a video, and what the
        task cannot be asked with.
        """

    def text(self, token_ids: Sequence[int]) -> str:
        """Return what was generated as the reference does: special tokens left out, stripped."""


SpecT = TypeVar("SpecT", contravariant=True)
OptionsT = TypeVar("OptionsT", contravariant=True)


class Family(Protocol[SpecT, OptionsT]):
    """What all families have: how they see a video."""

    name: str
    """As in the manifest and of the public Triton model."""
    head: Head
    """What it answers."""
    spec_type: type[Any]
    """The frozen dataclass whose fields `manifest.model` has."""

    @abstractmethod
    def streams(self, spec: SpecT) -> tuple[FrameStream, ...]:
        """Return the inputs of the vision stage that are frames."""

    def plan_inputs(self, spec: SpecT) -> tuple[PlanInput, ...]:
        """Return the other inputs of the vision stage, which follow its streams."""

    @abstractmethod
    def plan(
        self, index: VideoIndex, options: OptionsT, spec: SpecT, limits: Limits = DEFAULT_LIMITS
    ) -> VideoPlan:
        """Sample the frames within the limits, or refuse what does not go together.

        `options` are `ScoreOptions` or `AnswerOptions`, by the head.
        """

    @abstractmethod
    def describe(self, facts: Mapping[str, int]) -> str:
        """Say in a few words what each frame becomes, from `VideoPlan.facts`: "25 tokens each"."""


class FramesFamily(Family[SpecT, OptionsT], Protocol[SpecT, OptionsT]):
    """A family of head "frames": its plans sample each frame once, for an answer ranks them."""

    def open_tokenizer(self, path: Path, spec: SpecT) -> QueryTokenizer:
        """Open a `tokenizer.json` as `groundserve build` writes it."""

    def recognises(self, raw_config: Mapping[str, Any]) -> bool:
        """Tell whether a config.json is of this family."""

    def open_checkpoint(
        self, path: str | Path, *, vision_tower: str | Path | None = None
    ) -> FamilyCheckpoint:
        """Open a local directory or a hub id; imports PyTorch."""


class EngineFamily(FramesFamily[SpecT, OptionsT], Protocol[SpecT, OptionsT]):
    """A family of head "frames" that engines for a GPU can be built of."""

    def read_front(self, path: Path, *, device: str) -> GroundingFront:
        """Read `grounding_embeddings.safetensors` of `groundserve build`; imports PyTorch."""


class TextFamily(Family[SpecT, AnswerOptions]):
    """A family of head "text": a causal decoder that answers in words, with times.

    Where a family says nothing else, frames are all that it encodes, and features all that its
    front takes. Its folder has `checkpoint.Checkpoint`, which is opened.
    """

    head: Head = "text"
    tasks: tuple[Task, ...]
    """What it can be asked."""
    tasks_without_query: tuple[Task, ...]
    """Tasks among them that take no question, but for `raw` ones: no other place says it."""
    part_names: tuple[str, ...]
    """What a checkpoint consists of, as `--part` names it."""
    seen_as: str = ""
    """What a frame becomes, in a few words."""
    own_positions: bool = False
    """Whether its prompts have `Prompt.position_ids`, which a decoder's graph then takes."""

    @abstractmethod
    def open_tokenizer(self, path: Path, spec: SpecT) -> AnswerTokenizer:
        """Open a `tokenizer.json` as `groundserve build` writes it."""

    @abstractmethod
    def parse(self, text: str, task: Task, seen: SeenVideo) -> tuple[Moment, ...] | None:
        """Read the times of an answer, in its order.

        () for a task without times; None where it says none that can be read.
        """

    @abstractmethod
    def recognises(self, directory: Path) -> bool:
        """Tell whether a directory holds the parts in the layout of the reference."""

    def describe(self, facts: Mapping[str, int]) -> str:
        """Say what each frame becomes."""
        return self.seen_as

    def plan_inputs(self, spec: SpecT) -> tuple[PlanInput, ...]:
        """Return none."""
        return ()

    def front_inputs(self, spec: SpecT) -> tuple[PlanInput, ...]:
        """Return what `FrontModule` takes beside FEATURES."""
        return ()

    def front_arrays(self, seen: SeenVideo, spec: SpecT) -> tuple[NDArray[np.float32], ...]:
        """Return the arrays of `front_inputs` for one video."""
        return ()

    def open_checkpoint(
        self, path: str | Path, *, parts: GivenParts | None = None
    ) -> TextCheckpoint:
        """Find the parts, but those given by name, and open their configs; imports PyTorch.

        `path` is in the layout of the reference, as is a copy that `copy_to` wrote.
        """
        check_transformers(self.name)
        module = extras.load(f"{type(self).__module__}.checkpoint", "build")
        opened: TextCheckpoint = module.Checkpoint.open(path, parts=parts or {})
        return opened
