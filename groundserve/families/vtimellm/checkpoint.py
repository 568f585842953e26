"""Read a checkpoint in the reference's layout: CLIP, Vicuna, projector, adapters in their order."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from groundserve.errors import InvalidRequestError
from groundserve.families.arithmetic import causal_decoder_flop
from groundserve.families.base import FindingRow
from groundserve.families.llama import (
    empty_llama,
    is_llama_weight,
    llama_config,
    llama_end_id,
    llama_files,
)
from groundserve.families.parts import write_choices
from groundserve.families.vtimellm.clip import ClipSource
from groundserve.families.vtimellm.layout import (
    PROJECTOR_NAME,
    Parts,
    find_parts,
    stage_name,
)
from groundserve.families.vtimellm.spec import VTimeLLMSpec
from groundserve.families.vtimellm.vision import Projector, VisionEncoder
from groundserve.tokenizers.llama_tokenizer import END, UNKNOWN
from groundserve.tokenizers.sentencepiece import read_llama_tokenizer
from groundserve.weights.lora import Adapter, adapter_files, merge
from groundserve.weights.tensors import files_sha256, filled_module, read_all_tensors, read_json
from groundserve.weights.torch_archive import read_torch_file

# The reference relabels the type; the file is Llama's otherwise.
_MODEL_TYPES = ("llama", "VTimeLLM")
_WHOLE_NAME = "non_lora_trainables.bin"
_PROJECTOR = "mm_projector."
_PROJECTOR_KEY = f"model.{_PROJECTOR}"
_VARIANT = "vicuna"
"""In the names of a copy's folders."""
_BASE_NAME = "base"
"""Of the base's folder in a copy."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """An opened checkpoint; all but the adapters' tensors are read when a module is asked for."""

    name: str
    parts: Parts
    raw_config: dict[str, Any]
    """The base's config.json as parsed."""
    config: LlamaConfig
    clip: ClipSource
    projector: Mapping[str, Tensor]
    """Weight (H, D) and bias (H,) as the decoder names them, mapped into memory."""
    adapters: tuple[Adapter, ...]
    """In the order in which they are merged."""

    @classmethod
    def open(cls, path: str | Path, *, parts: Mapping[str, Sequence[str | Path]]) -> Checkpoint:
        """Find the parts, and check that they are of one model.

        Raises:
            InvalidRequestError: A part is missing, or cannot be read, or is of another model.
            UnsupportedError: The model differs from what this code computes.
        """
        directory = Path(os.path.expanduser(path))
        found = find_parts(directory, parts)
        raw_config = read_json(found.base / "config.json")
        config = llama_config(
            raw_config, where=f"the part base {found.base.name}", model_types=_MODEL_TYPES
        )
        opened = cls(
            name=directory.resolve().name,
            parts=found,
            raw_config=raw_config,
            config=config,
            clip=ClipSource.open(found.clip, num_heads=found.clip_heads),
            projector=_read_projector(found.projector),
            adapters=tuple(
                Adapter.open(one, whole=_read_whole(one / _WHOLE_NAME)) for one in found.adapters
            ),
        )
        opened._check()
        return opened

    def load_vision(
        self, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> VisionEncoder:
        """Read CLIP's visual tower.

        Args:
            dtype: To convert the weights to, whatever the files hold.
            device: `cpu`, `cuda` or `cuda:1`.

        Raises:
            InvalidRequestError: Tensors are missing, or of another shape than the config says.
        """
        with torch.device("meta"):
            model = VisionEncoder(self.clip.config, antialias=self.parts.antialias)
        tensors = self.clip.tensors()
        # Made contiguous: the projection is the file's turned over.
        return filled_module(
            model, {name: t.to(device, dtype).contiguous() for name, t in tensors.items()}, device
        )

    def load_front(self, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Projector:
        """Read the projector; arguments as of `load_vision`."""
        with torch.device("meta"):
            model = Projector(self.clip.config.projection_dim, self.config.hidden_size)
        # In float32 up to here: the reference attaches it so, whatever the decoder's dtype.
        merged = {
            f"linear.{name.removeprefix(_PROJECTOR_KEY)}": merge(
                name, tensor, self.adapters, dtype=torch.float32
            ).to(device, dtype)
            for name, tensor in self.projector.items()
        }
        return filled_module(model, merged, device)

    def load_decoder(
        self, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> LlamaForCausalLM:
        """Read the decoder with its adapters merged, one tensor after another.

        Args:
            dtype: Of the weights. In float32 nothing is rounded; else each adapter's sum is, as the
                reference does in float16.
            device: As of `load_vision`.

        Raises:
            InvalidRequestError: Tensors are missing or damaged, or of another shape.
        """
        model = self._empty_decoder()
        tensors = read_all_tensors(self.parts.base, is_llama_weight)
        return filled_module(
            model,
            {
                name: merge(name, tensor, self.adapters, dtype=dtype).to(device)
                for name, tensor in tensors
            },
            device,
        )

    def load_tokenizer(self) -> tuple[Tokenizer, int]:
        """Return Vicuna's tokenizer as a fast one, and the padding id, which is that of <unk>.

        Raises:
            InvalidRequestError: It is missing or damaged, or has more tokens than the decoder, or
                another one that ends an answer.
            UnsupportedError: It is no tokenizer as Llama's.
        """
        tokenizer = read_llama_tokenizer(self.parts.base)
        if tokenizer.get_vocab_size() > self.vocab_size:
            raise InvalidRequestError(
                f"the part base {self.parts.base.name}: its tokenizer has "
                f"{tokenizer.get_vocab_size()} tokens, its decoder {self.vocab_size}; give a "
                "directory whose files belong together"
            )
        if tokenizer.token_to_id(END) != self.end_token_id:  # answers would end elsewhere
            raise InvalidRequestError(
                f"the part base {self.parts.base.name}: eos_token_id in config.json is "
                f"{self.end_token_id}, its tokenizer's {END} is {tokenizer.token_to_id(END)}; give "
                "a directory whose files belong together"
            )
        return tokenizer, cast(int, tokenizer.token_to_id(UNKNOWN))  # which every one read has

    def model_spec(self, *, pad_token_id: int) -> VTimeLLMSpec:
        """Return what serving must know."""
        return VTimeLLMSpec(
            feature_width=self.clip.config.projection_dim,
            max_tokens=self.config.max_position_embeddings,
            hidden_size=self.config.hidden_size,
            end_token_id=self.end_token_id,
            antialias=self.parts.antialias,
        )

    @property
    def end_token_id(self) -> int:
        """The token that ends an answer."""
        return llama_end_id(self.config)

    def findings(self) -> Iterator[FindingRow]:
        """See `groundserve.families.vtimellm.findings`."""
        from groundserve.families.vtimellm import findings  # which reads a Checkpoint

        return findings.find(self)

    def copy_to(self, directory: Path) -> None:
        """Write a copy of all parts in the reference's layout."""
        clip = directory / ("clip-hf" if self.parts.clip.is_dir() else "clip")
        _copy(self.clip.files, clip)
        if not self.parts.clip.is_dir():
            # By which it is found there; in a cache of the hub a file is named by its content.
            copied = clip / self.parts.clip.name
            copied.rename(copied.with_suffix(".pt"))
        # By its own name it might be taken for a stage, or for CLIP.
        _copy(llama_files(self.parts.base), directory / _BASE_NAME)
        stage = directory / stage_name(_VARIANT, 1)
        _copy([self.parts.projector], stage)
        (stage / self.parts.projector.name).rename(stage / PROJECTOR_NAME)
        for number, adapter in enumerate(self.parts.adapters, start=2):
            _copy(_adapter_files(adapter), directory / stage_name(_VARIANT, number))
        write_choices(directory, self.parts.choices)

    def describe(self) -> dict[str, Any]:
        """Return name and hashes for a manifest; reads every file once."""
        parts = self.parts
        files = [(f"base/{path.name}", path) for path in llama_files(parts.base)]
        files.append((f"projector/{PROJECTOR_NAME}", parts.projector))
        for number, adapter in enumerate(parts.adapters):
            files += [(f"adapter{number}/{path.name}", path) for path in _adapter_files(adapter)]
        # The one file's name says nothing of what is in it.
        named = parts.clip.is_dir()
        clip = [(path.name if named else "clip.pt", path) for path in self.clip.files]
        return {
            "name": self.name,
            "note": None,
            "sha256": files_sha256(files),
            "vision_weights": parts.clip.name,
            # Of the resizing as well: features in a cache are named by it.
            "vision_sha256": files_sha256(
                clip,
                f"antialias {parts.antialias}",
                f"heads {self.clip.config.num_attention_heads}",
            ),
        }

    def vision_flop(self) -> float:
        """Return the arithmetic of the vision stage for one frame; a multiply-add is 2."""
        return self.clip.config.frame_flop()

    def decoder_flop(self, num_tokens: int) -> float:
        """Return the arithmetic of one pass through the decoder's layers."""
        return causal_decoder_flop(self.config, num_tokens)

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding table."""
        return int(self.config.vocab_size)

    def _empty_decoder(self) -> LlamaForCausalLM:
        return empty_llama(self.config, where=f"the part base {self.parts.base.name}")

    def _check(self) -> None:
        """Check that the parts are of one model, before any weight is read."""
        hidden_size, width = self.config.hidden_size, self.clip.config.projection_dim
        expected = {"weight": (hidden_size, width), "bias": (hidden_size,)}
        shapes: dict[str, Sequence[int]] = {
            _PROJECTOR_KEY + name: shape for name, shape in expected.items()
        }
        for name, shape in shapes.items():
            tensor = self.projector.get(name)
            if tensor is None or tensor.shape != shape:
                got = "none" if tensor is None else str(tuple(tensor.shape))
                raise InvalidRequestError(
                    f"the part projector {self.parts.projector.name}: {name} must be {shape}, from "
                    f"CLIP's {width} to the decoder's {hidden_size}, got {got}; give parts of one "
                    "model"
                )
        decoder = self._empty_decoder()
        shapes |= {name: tensor.shape for name, tensor in decoder.state_dict().items()}
        for adapter in self.adapters:
            adapter.check(shapes)


def _read_projector(path: Path) -> dict[str, Tensor]:
    """Read the first stage's file, whose names have any prefix."""
    return {
        _PROJECTOR_KEY + name.partition(_PROJECTOR)[2]: tensor
        for name, tensor in read_torch_file(path).items()
        if _PROJECTOR in name
    }


def _read_whole(path: Path) -> dict[str, Tensor]:
    """Read what was trained beside an adapter, by the decoder's names; mostly there is nothing.

    Source: huangb23/VTimeLLM c34ae56, `vtimellm/model/builder.py::load_lora`. What fits no name is
    passed over there; here the adapter is refused.
    """
    if not path.is_file():
        return {}
    found = {name.removeprefix("base_model."): t for name, t in read_torch_file(path).items()}
    if any(name.startswith("model.model.") for name in found):
        return {name.removeprefix("model."): tensor for name, tensor in found.items()}
    return found


def _adapter_files(directory: Path) -> list[Path]:
    whole = directory / _WHOLE_NAME
    return [*adapter_files(directory), *([whole] if whole.is_file() else [])]


def _copy(files: Sequence[Path], directory: Path) -> None:
    directory.mkdir()
    for file in files:
        shutil.copyfile(file, directory / file.name)
