"""Read a toy checkpoint: config.json, model.safetensors, tokenizer.json."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from tokenizers import Tokenizer
from torch import nn

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.base import FindingRow
from groundserve.families.toy.model import PATCH, ToyGrounding, ToyVision
from groundserve.families.toy.spec import ToySpec
from groundserve.weights.checkpoint_place import find_checkpoint
from groundserve.weights.tensors import directory_sha256, fill_module, read_json, read_tensors

ModuleT = TypeVar("ModuleT", bound=nn.Module)

_KEYS = ("image_size", "frame_stride", "max_frames", "width", "vocab_size", "max_tokens")


@dataclass(frozen=True, kw_only=True)
class ToyCheckpoint:
    """See `groundserve.families.base.FamilyCheckpoint`."""

    directory: Path
    """Local directory."""
    raw_config: dict[str, Any]
    """config.json as parsed."""

    @classmethod
    def open(cls, path: str | Path) -> ToyCheckpoint:
        """Open a local directory.

        Raises:
            InvalidRequestError: config.json is missing, or lacks a number.
            UnsupportedError: Frames cannot be cut into whole patches.
        """
        directory = find_checkpoint(path)
        if directory is None:
            raise InvalidRequestError(f"checkpoint {path}: toy models are not on the hub")
        raw_config = read_json(directory / "config.json")
        for key in _KEYS:
            if not isinstance(raw_config.get(key), int):
                raise InvalidRequestError(
                    f"config.json: {key} must be a whole number, got {raw_config.get(key)!r}"
                )
        if raw_config["image_size"] % PATCH:
            raise UnsupportedError(
                f"config.json: image_size must be a multiple of {PATCH}, "
                f"got {raw_config['image_size']}"
            )
        return cls(directory=directory, raw_config=raw_config)

    @property
    def name(self) -> str:
        """Directory name."""
        return self.directory.name

    @property
    def folders(self) -> dict[str, Path]:
        """See `groundserve.families.base.FamilyCheckpoint`."""
        return {"checkpoint": self.directory}

    def describe(self) -> dict[str, Any]:
        """Return name, note and hashes for a manifest."""
        sha256 = directory_sha256(self.directory)
        return {"name": self.name, "note": None, "sha256": sha256, "vision_sha256": None}

    def findings(self) -> Iterator[FindingRow]:
        """Yield nothing: there is nothing to get wrong."""
        return iter(())

    def load_tokenizer(self) -> tuple[Tokenizer, int]:
        """Return the tokenizer; it pads with token 0."""
        return Tokenizer.from_file(str(self.directory / "tokenizer.json")), 0

    def model_spec(self, *, pad_token_id: int) -> ToySpec:
        """Return what serving must know."""
        raw = self.raw_config
        return ToySpec(
            image_size=raw["image_size"],
            frame_stride=raw["frame_stride"],
            max_frames=raw["max_frames"],
            feature_width=raw["width"],
            max_tokens=raw["max_tokens"],
        )

    def load_vision(self, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> ToyVision:
        """Read the vision stage."""
        raw = self.raw_config
        with torch.device("meta"):
            model = ToyVision(image_size=raw["image_size"], width=raw["width"])
        return self._filled(model, "vision.", dtype, device)

    def load_grounding(
        self, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> ToyGrounding:
        """Read what stands behind FEATURES."""
        raw = self.raw_config
        with torch.device("meta"):
            model = ToyGrounding(vocab_size=raw["vocab_size"], width=raw["width"])
        return self._filled(model, "grounding.", dtype, device)

    def vision_flop(self) -> float:
        """Return the arithmetic of one frame: each pixel meets each column of the layer once."""
        return float(2 * 3 * self.raw_config["image_size"] ** 2 * self.raw_config["width"])

    def decoder_flop(self, num_tokens: int) -> float:
        """Return the arithmetic of one product a token."""
        return float(2 * num_tokens * self.raw_config["width"])

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding table."""
        return int(self.raw_config["vocab_size"])

    def _filled(self, model: ModuleT, prefix: str, dtype: torch.dtype, device: str) -> ModuleT:
        """Give a module on the meta device the weights of that prefix."""
        found = read_tensors(self.directory, lambda name: name.startswith(prefix))
        tensors = {name.removeprefix(prefix): tensor.to(device, dtype) for name, tensor in found}
        fill_module(model, tensors)
        return model.eval().requires_grad_(False)
