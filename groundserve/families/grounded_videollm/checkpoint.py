"""Read a checkpoint: two towers, and what the last stage trained of projectors and decoder."""

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
from transformers import PreTrainedModel

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.arithmetic import causal_decoder_flop
from groundserve.families.base import FindingRow
from groundserve.families.grounded_videollm.clip import ClipSource
from groundserve.families.grounded_videollm.decoder import decoder_config, empty_decoder
from groundserve.families.grounded_videollm.internvideo2 import InternVideo2Source
from groundserve.families.grounded_videollm.layout import (
    Parts,
    copy_places,
    find_parts,
)
from groundserve.families.grounded_videollm.spec import PHI_3_5, GroundedVideoLLMSpec
from groundserve.families.grounded_videollm.tokenizer import read_tokenizer
from groundserve.families.grounded_videollm.tuned import TunedState, read_newlines
from groundserve.families.grounded_videollm.vision import Front, VisionConfig, VisionEncoder
from groundserve.families.parts import write_choices
from groundserve.strict_json import shown
from groundserve.weights.lora import merge
from groundserve.weights.tensors import check_tensors, files_sha256, filled_module, read_json


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """An opened checkpoint; its tensors are mapped and read when a module is asked for."""

    name: str
    parts: Parts
    raw_config: dict[str, Any]
    """The decoder's config.json as parsed, of before its tables grew."""
    config: Any
    clip: ClipSource
    internvideo2: InternVideo2Source
    newlines: Mapping[str, Tensor]
    """Vectors between rows and segments, by the names of the vision stage."""
    tuned: TunedState

    @classmethod
    def open(cls, path: str | Path, *, parts: Mapping[str, Sequence[str | Path]]) -> Checkpoint:
        """Find the parts, and check that they are of one model.

        Raises:
            InvalidRequestError: A part is missing, or cannot be read, or is of another model.
            UnsupportedError: The model differs from what this code computes.
        """
        directory = Path(os.path.expanduser(path))
        found = find_parts(directory, parts)
        # Of the model that the base was cut from; not always there.
        whole = read_json(found.model_config) if found.model_config.is_file() else {}
        _check_activation(whole, found.model_config.parent.name)
        raw_config = read_json(found.decoder_config)
        tuned = TunedState.open(found.checkpoint)
        opened = cls(
            name=directory.resolve().name,
            parts=found,
            raw_config=raw_config,
            config=decoder_config(raw_config, found.llm, vocab_size=tuned.vocab_size),
            clip=ClipSource.open(
                found.clip, num_heads=found.clip_heads, described=whole.get("vision_config")
            ),
            internvideo2=InternVideo2Source.open(
                found.internvideo,
                num_frames=PHI_3_5.frames_per_segment,
                num_heads=found.internvideo_heads,
            ),
            newlines=read_newlines(found.newlines, found.llm),
            tuned=tuned,
        )
        opened._check()
        return opened

    def load_vision(
        self, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> VisionEncoder:
        """Read both towers and both projectors.

        Args:
            dtype: To convert the weights to, whatever the files hold.
            device: `cpu`, `cuda` or `cuda:1`.

        Raises:
            InvalidRequestError: Tensors are missing, or there are more, or of other shapes.
        """
        tensors = {
            name: tensor.to(device, dtype) for name, tensor in self._vision_tensors().items()
        }
        return filled_module(self._empty_vision(), tensors, device)

    def load_front(self, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Front:
        """Return what makes the block; it has no weights."""
        return Front()

    def load_decoder(
        self, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> PreTrainedModel:
        """Read the decoder with its adapter merged, one tensor after another.

        Args:
            dtype: Of the weights. In float32 nothing is rounded.
            device: As of `load_vision`.

        Raises:
            InvalidRequestError: Tensors are missing or damaged, or of another shape.
        """
        tensors = {
            name: merge(name, tensor, [self.tuned.adapter], dtype=dtype).to(device)
            for name, tensor in self.tuned.decoder.items()
        }
        return cast(PreTrainedModel, filled_module(self._empty_decoder(), tensors, device))

    def load_tokenizer(self) -> tuple[Tokenizer, int]:
        """Return the decoder's tokenizer with the tokens for times, and its padding id.

        Raises:
            InvalidRequestError: It is missing or damaged, or has more tokens than the decoder.
            UnsupportedError: It is no tokenizer as the decoder's.
        """
        tokenizer, pad_token_id = read_tokenizer(self.parts.tokenizer, self.parts.llm)
        # The last id, and not how many there are: the reference's tables have rows of no token.
        if tokenizer.get_vocab_size() > self.vocab_size:
            raise InvalidRequestError(
                f"the part tokenizer {self.parts.tokenizer.name}: with the tokens for times it has "
                f"{tokenizer.get_vocab_size()}, the decoder {self.vocab_size} rows; give "
                "directories whose files belong together"
            )
        return tokenizer, pad_token_id

    def model_spec(self, *, pad_token_id: int) -> GroundedVideoLLMSpec:
        """Return what serving must know."""
        vision = self._vision_config
        return GroundedVideoLLMSpec(
            llm=self.parts.llm,
            temporal_size=vision.internvideo2.image_size,
            spatial_size=vision.clip.image_size,
            num_spatial_tokens=vision.num_spatial_tokens,
            num_temporal_tokens=vision.num_temporal_tokens,
            feature_width=vision.hidden_size,
            max_tokens=self.config.max_position_embeddings,
        )

    def findings(self) -> Iterator[FindingRow]:
        """See `groundserve.families.grounded_videollm.findings`."""
        from groundserve.families.grounded_videollm import findings  # which reads a Checkpoint

        return findings.find(self)

    def copy_to(self, directory: Path) -> None:
        """Write a copy of all parts in the reference's layout."""
        for place, file in copy_places(self.parts).items():
            (directory / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, directory / place)
        write_choices(directory, self.parts.choices)

    def describe(self) -> dict[str, Any]:
        """Return name and hashes for a manifest; reads every file once."""
        parts = self.parts
        return {
            "name": self.name,
            "note": None,
            "sha256": files_sha256(
                copy_places(parts).items(),
                f"angles {parts.angles}",
                f"clip heads {self.clip.config.num_attention_heads}",
                f"internvideo heads {self.internvideo2.config.num_heads}",
            ),
            "vision_weights": f"{parts.clip.name}, {parts.internvideo.name}",
            # Features lie behind the projectors, which are in one file with the decoder.
            "vision_sha256": None,
        }

    def vision_flop(self) -> float:
        """Return the arithmetic of the vision stage for one segment; a multiply-add is 2."""
        return self._vision_config.segment_flop()

    def decoder_flop(self, num_tokens: int) -> float:
        """Return the arithmetic of one pass through the decoder's layers."""
        return causal_decoder_flop(self.config, num_tokens)

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding table."""
        return self.tuned.vocab_size

    @property
    def _vision_config(self) -> VisionConfig:
        return VisionConfig(
            llm=self.parts.llm,
            clip=self.clip.config,
            internvideo2=self.internvideo2.config,
            hidden_size=self.config.hidden_size,
        )

    def _empty_vision(self) -> VisionEncoder:
        config = self._vision_config
        try:
            with torch.device("meta"):
                return VisionEncoder(config)
        except RuntimeError as error:  # of sizes past all numbers, or below 0
            raise InvalidRequestError(
                f"checkpoint {self.name}: there are no towers of the sizes that its parts have: "
                f"{error}"
            ) from error

    def _empty_decoder(self) -> PreTrainedModel:
        model = empty_decoder(self.config, self.parts.llm, angles=self.parts.angles)
        return cast(PreTrainedModel, model)

    def _vision_tensors(self) -> dict[str, Tensor]:
        """Return all of the vision stage by its names."""
        found = {f"clip.{name}": tensor for name, tensor in self.clip.tensors.items()}
        found |= {f"internvideo2.{name}": t for name, t in self.internvideo2.tensors.items()}
        return found | {**self.newlines, **self.tuned.projectors(self.parts.llm)}

    def _check(self) -> None:
        """Check that the parts are of one model, before any weight is converted."""
        check_tensors(self._empty_vision(), self._vision_tensors())
        num_layers, most = self.config.num_hidden_layers, len(self.tuned.decoder)
        if num_layers > most:  # which would take long to make
            raise InvalidRequestError(
                "the part base: num_hidden_layers must be as many as the part checkpoint has, "
                f"which holds {most} tensors, got {num_layers}"
            )
        num_visual = self.model_spec(pad_token_id=0).max_feature_tokens
        num_positions = self.config.max_position_embeddings
        if num_positions <= num_visual:
            raise InvalidRequestError(
                f"the part base: max_position_embeddings must leave room behind the {num_visual} "
                f"tokens of a video, got {num_positions}"
            )
        decoder = self._empty_decoder()
        check_tensors(decoder, self.tuned.decoder)
        shapes = {name: tensor.shape for name, tensor in decoder.state_dict().items()}
        self.tuned.adapter.check(shapes)


def _check_activation(raw_config: Mapping[str, Any], name: str) -> None:
    """Check what stands between the layers of the spatial projector, where a file says so."""
    activation = raw_config.get("projector_hidden_act", "gelu")
    if activation != "gelu":
        raise UnsupportedError(
            f"{name}: projector_hidden_act must be gelu, got {shown(activation)}"
        )
