"""Read a checkpoint in the reference's layout: CLIP, Vicuna, projector, adapters in their order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from groundserve.errors import InvalidRequestError
from groundserve.families.base import FindingRow
from groundserve.families.llama import is_llama_weight, llama_files
from groundserve.families.parts import GivenParts
from groundserve.families.text_checkpoint import OpenedLlamaCheckpoint, tower_sizes
from groundserve.families.vtimellm.clip import ClipSource
from groundserve.families.vtimellm.layout import PROJECTOR_NAME, Parts, find_parts
from groundserve.families.vtimellm.plan import VTimeLLMSpec
from groundserve.families.vtimellm.vision import Projector, VisionEncoder
from groundserve.tokenizers.sentencepiece import read_llama_tokenizer
from groundserve.weights.hashes import files_sha256
from groundserve.weights.lora import Adapter, adapter_files, merge
from groundserve.weights.tensors import filled_module, read_tensors
from groundserve.weights.torch_archive import is_script_archive, read_torch_file

# The reference relabels the type; the file is Llama's otherwise.
_MODEL_TYPES = ("llama", "VTimeLLM")
_WHOLE_NAME = "non_lora_trainables.bin"
_PROJECTOR = "mm_projector."
_PROJECTOR_KEY = f"model.{_PROJECTOR}"


class Checkpoint(OpenedLlamaCheckpoint):
    """An opened checkpoint; all but the adapters' tensors are read when a module is asked for."""

    parts: Parts

    def __init__(self, directory: Path, given: GivenParts) -> None:
        super().__init__(directory, given)
        self.parts = find_parts(directory, given)
        self.read_config(model_types=_MODEL_TYPES)
        self.clip = ClipSource(self.parts.clip, num_heads=self.parts.clip_heads)
        # Weight (H, D) and bias (H,); in the first stage's file names have any prefix.
        self.projector = {
            _PROJECTOR_KEY + name.partition(_PROJECTOR)[2]: tensor
            for name, tensor in read_torch_file(self.parts.projector).items()
            if _PROJECTOR in name
        }
        self.adapters = tuple(
            Adapter.open(one, whole=_read_whole(one / _WHOLE_NAME)) for one in self.parts.adapters
        )
        self._check()

    def empty_vision(self) -> VisionEncoder:
        """Return CLIP's visual tower on the meta device."""
        with torch.device("meta"):
            return VisionEncoder(self.clip.config, antialias=self.parts.antialias)

    def vision_tensors(self, names: AbstractSet[str]) -> dict[str, Tensor]:
        """Read all of the tower."""
        return self.clip.tensors()

    def load_front(self, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Projector:
        """Read the projector."""
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

    def decoder_tensors(self, names: AbstractSet[str]) -> Iterator[tuple[str, Tensor]]:
        """Yield those of the base."""
        return read_tensors(self.parts.base, is_llama_weight, or_pickled=True)

    def load_tokenizer(self) -> tuple[Tokenizer, int]:
        """Return Vicuna's tokenizer as a fast one, and the padding id, which is that of <unk>."""
        tokenizer = read_llama_tokenizer(self.parts.base)
        if tokenizer.get_vocab_size() > self.vocab_size:
            raise InvalidRequestError(
                f"{self.where}: its tokenizer has {tokenizer.get_vocab_size()} tokens, its decoder "
                f"{self.vocab_size}; give a directory whose files belong together"
            )
        return self.checked_tokenizer(tokenizer)

    def model_spec(self, *, pad_token_id: int) -> VTimeLLMSpec:
        """Return what serving must know."""
        return VTimeLLMSpec(
            feature_width=self.clip.config.projection_dim,
            max_tokens=self.config.max_position_embeddings,
            hidden_size=self.config.hidden_size,
            end_token_id=self.end_token_id,
            antialias=self.parts.antialias,
        )

    def findings(self) -> Iterator[FindingRow]:
        """Yield each part, unused files, and how frames are resized."""
        parts = self.parts
        if parts.clip.is_dir():
            kind = "a directory of transformers"
        else:
            kind = "OpenAI's archive" if is_script_archive(parts.clip) else "a state dict"
        yield "clip", "ok", f"{parts.clip.name}, {kind}: {tower_sizes(self.clip.config)}"
        yield self.base_finding
        widths = f"{self.clip.config.projection_dim} to {self.config.hidden_size}"
        place = f"{parts.projector.parent.name}/{parts.projector.name}"
        yield "projector", "ok", f"{place}: {widths}"
        for adapter in self.adapters:
            detail = f"{adapter.name}: {len(adapter.pairs)} layers, scale {adapter.scale:g}"
            if adapter.whole:
                detail += f"; it replaces {', '.join(sorted(adapter.whole))}"
            yield "adapter", "warn" if adapter.whole else "ok", detail
        if len(self.adapters) == 1:
            one_stage = "one stage alone: answers keep to the wording it was trained on"
            yield "adapters", "warn", one_stage
        if parts.left_aside:
            yield "left aside", "ok", ", ".join(parts.left_aside)
        detail = "on, as with torchvision 0.17 or later" if parts.antialias else "off, as published"
        yield "antialias", "warn" if parts.antialias else "ok", detail

    def copy_places(self) -> dict[str, Path]:
        """Return places in the folders of the stages, a CLIP in a folder of its own."""
        parts = self.parts
        if parts.clip.is_dir():
            places = {f"clip-hf/{path.name}": path for path in self.clip.files}
        else:  # in a cache of the hub a file is named by its content
            places = {f"clip/{Path(parts.clip.name).with_suffix('.pt')}": parts.clip}
        # By its own name the base might be taken for a stage, or for CLIP.
        places |= {f"base/{path.name}": path for path in llama_files(parts.base)}
        places[f"vtimellm-vicuna-stage1/{PROJECTOR_NAME}"] = parts.projector
        for number, adapter in enumerate(parts.adapters, start=2):
            stage = f"vtimellm-vicuna-stage{number}"
            places |= {f"{stage}/{path.name}": path for path in _adapter_files(adapter)}
        return places

    def hashes(self) -> dict[str, Any]:
        """Return those of the decoder with its projector, and of CLIP."""
        parts = self.parts
        files = [(f"base/{path.name}", path) for path in llama_files(parts.base)]
        files.append((f"projector/{PROJECTOR_NAME}", parts.projector))
        for number, adapter in enumerate(parts.adapters):
            files += [(f"adapter{number}/{path.name}", path) for path in _adapter_files(adapter)]
        # The one file's name says nothing of what is in it.
        named = parts.clip.is_dir()
        clip = [(path.name if named else "clip.pt", path) for path in self.clip.files]
        return {
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
        return self.clip.config.flop()

    def _check(self) -> None:
        hidden_size, width = self.config.hidden_size, self.clip.config.projection_dim
        shapes: dict[str, Sequence[int]] = {
            f"{_PROJECTOR_KEY}weight": (hidden_size, width),
            f"{_PROJECTOR_KEY}bias": (hidden_size,),
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
        decoder = self.empty_decoder()
        shapes |= {name: tensor.shape for name, tensor in decoder.state_dict().items()}
        for adapter in self.adapters:
            adapter.check(shapes)


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
