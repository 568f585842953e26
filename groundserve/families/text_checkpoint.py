"""What opened checkpoints of head "text" do alike: stages loaded, parts copied, facts told."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Self, cast

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedModel

from groundserve.errors import InvalidRequestError
from groundserve.families.base import FindingRow
from groundserve.families.llama import empty_llama, llama_config
from groundserve.families.modules import VisionModule
from groundserve.families.parts import FoundParts, GivenParts, LlamaParts, write_choices
from groundserve.tokenizers.llama_tokenizer import END, UNKNOWN
from groundserve.weights.checkpoint_place import local_place, read_note
from groundserve.weights.lora import Adapter, merge
from groundserve.weights.tensors import filled_module, read_json


class OpenedTextCheckpoint(ABC):
    """Base of a `TextCheckpoint`; tensors are read when a module is asked for."""

    parts: FoundParts
    raw_config: dict[str, Any]
    """The decoder's config.json as parsed."""
    config: Any
    """The decoder's, as transformers has it."""
    adapters: tuple[Adapter, ...] = ()
    """In the order in which they are merged."""

    def __init__(self, directory: Path, given: GivenParts) -> None:
        """Find the parts, and check that they are of one model."""
        self.name, self.note = directory.resolve().name, read_note(directory)

    @classmethod
    def open(cls, path: str | Path, *, parts: GivenParts) -> Self:
        """Open what `TextFamily.open_checkpoint` is given."""
        return cls(local_place(path), parts)

    @abstractmethod
    def empty_vision(self) -> VisionModule:
        """Return the vision stage on the meta device."""

    @abstractmethod
    def vision_tensors(self, names: AbstractSet[str]) -> Mapping[str, Tensor]:
        """Return the vision stage's tensors; `names` are those of `empty_vision`."""

    @abstractmethod
    def empty_decoder(self) -> PreTrainedModel:
        """Return the decoder on the meta device."""

    @abstractmethod
    def decoder_tensors(self, names: AbstractSet[str]) -> Iterable[tuple[str, Tensor]]:
        """Yield the decoder's, before adapters are merged; `names` are those of `empty_decoder`."""

    @abstractmethod
    def copy_places(self) -> Mapping[str, Path]:
        """Return where in a copy, as the family's layout has it, each file that is read goes."""

    @abstractmethod
    def hashes(self) -> dict[str, Any]:
        """Return "sha256", "vision_weights" and "vision_sha256" of `TextCheckpoint.describe`."""

    def load_vision(
        self, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> VisionModule:
        """Read the vision stage, whatever dtype the files hold."""
        model = self.empty_vision()
        tensors = self.vision_tensors(model.state_dict().keys())
        return filled_module(
            model, {name: t.to(device, dtype).contiguous() for name, t in tensors.items()}, device
        )

    def load_decoder(
        self, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> PreTrainedModel:
        """Read the decoder with its adapters merged, one tensor after another.

        In float32 nothing is rounded; else each adapter's sum is.
        """
        model = self.empty_decoder()
        tensors = self.decoder_tensors(model.state_dict().keys())
        merged = {
            name: merge(name, tensor, self.adapters, dtype=dtype).to(device)
            for name, tensor in tensors
        }
        return cast(PreTrainedModel, filled_module(model, merged, device))

    def copy_to(self, directory: Path) -> None:
        """Write a copy of all parts in the reference's layout."""
        for place, file in self.copy_places().items():
            (directory / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, directory / place)
        write_choices(directory, self.parts.choices)

    def describe(self) -> dict[str, Any]:
        """Return name and hashes for a manifest; reads every file once."""
        return {"name": self.name, "note": self.note, **self.hashes()}

    def decoder_flop(self, num_tokens: int) -> float:
        """Return the arithmetic of one pass through the decoder's layers."""
        return causal_decoder_flop(self.config, num_tokens)

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding table."""
        return int(self.config.vocab_size)


class OpenedLlamaCheckpoint(OpenedTextCheckpoint):
    """Base of those whose decoder is Llama, with its tokenizer beside it."""

    parts: LlamaParts

    def read_config(self, **how: Any) -> None:
        """Read the base's config.json, as `llama_config` is told."""
        self.raw_config = read_json(self.parts.base / "config.json")
        self.config = llama_config(self.raw_config, where=self.where, **how)

    @property
    def end_token_id(self) -> int:
        """The token that ends an answer, which `llama_config` has checked."""
        return cast(int, self.config.eos_token_id)

    @property
    def base_finding(self) -> FindingRow:
        """What `findings` says of the base."""
        layers = f"{self.config.num_hidden_layers} layers of {self.config.hidden_size}"
        return "base", "ok", f"{self.parts.base.name}: Llama, {layers}"

    @property
    def where(self) -> str:
        """The base as an error names it."""
        return f"the part base {self.parts.base.name}"

    def empty_decoder(self) -> LlamaForCausalLM:
        """Return the decoder on the meta device."""
        return empty_llama(self.config, where=self.where)

    def checked_tokenizer(self, tokenizer: Tokenizer) -> tuple[Tokenizer, int]:
        """Return the tokenizer and its padding id, which is that of <unk>."""
        if tokenizer.token_to_id(END) != self.end_token_id:  # answers would end elsewhere
            raise InvalidRequestError(
                f"{self.where}: eos_token_id in config.json is {self.end_token_id}, its "
                f"tokenizer's {END} is {tokenizer.token_to_id(END)}; give a directory whose files "
                "belong together"
            )
        return tokenizer, cast(int, tokenizer.token_to_id(UNKNOWN))  # which every one read has


def causal_decoder_flop(config: Any, num_tokens: int) -> float:
    """Return the arithmetic of one pass through the layers of a causal decoder with a gated MLP.

    A token meets only those before it, which is half of them.
    """
    width, num_heads = config.hidden_size, config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or width // num_heads
    # Q and the output, K and V; gate, up and down.
    weights = 2 * width * head_size * (num_heads + config.num_key_value_heads)
    weights += 3 * width * config.intermediate_size
    per_token = weights + num_tokens * num_heads * head_size
    return float(2 * config.num_hidden_layers * num_tokens * per_token)


def tower_sizes(tower: Any) -> str:
    """Return the sizes of a vision transformer, for a finding."""
    return (
        f"{tower.num_hidden_layers} layers of {tower.hidden_size}, {tower.num_attention_heads} "
        f"heads, {tower.image_size} pixels, patches of {tower.patch_size}"
    )
