"""Read a checkpoint: two towers, and what the last stage trained of projectors and decoder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from groundserve.errors import InvalidRequestError, UnsupportedError
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
from groundserve.families.text_checkpoint import OpenedTextCheckpoint
from groundserve.strict_json import shown
from groundserve.weights.hashes import files_sha256
from groundserve.weights.tensors import check_tensors, read_json


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint(OpenedTextCheckpoint):
    """An opened checkpoint; its tensors are mapped and read when a module is asked for."""

    parts: Parts
    clip: ClipSource
    internvideo2: InternVideo2Source
    newlines: Mapping[str, Tensor]
    """Vectors between rows and segments, by the names of the vision stage."""
    tuned: TunedState

    @classmethod
    def open(cls, path: str | Path, *, parts: Mapping[str, Sequence[str | Path]]) -> Checkpoint:
        """Find the parts, and check that they are of one model."""
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
            adapters=(tuned.adapter,),
        )
        opened._check()
        return opened

    def empty_vision(self) -> VisionEncoder:
        """Return both towers and both projectors on the meta device."""
        try:
            with torch.device("meta"):
                return VisionEncoder(self._vision_config)
        except RuntimeError as error:  # of sizes past all numbers, or below 0
            raise InvalidRequestError(
                f"checkpoint {self.name}: there are no towers of the sizes that its parts have: "
                f"{error}"
            ) from error

    def vision_tensors(self, names: AbstractSet[str] = frozenset()) -> dict[str, Tensor]:
        """Return all of the vision stage."""
        found = {f"clip.{name}": tensor for name, tensor in self.clip.tensors.items()}
        found |= {f"internvideo2.{name}": t for name, t in self.internvideo2.tensors.items()}
        return found | {**self.newlines, **self.tuned.projectors(self.parts.llm)}

    def load_front(self, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Front:
        """Return what makes the block; it has no weights."""
        return Front()

    def empty_decoder(self) -> PreTrainedModel:
        """Return the decoder on the meta device."""
        model = empty_decoder(self.config, self.parts.llm, angles=self.parts.angles)
        return cast(PreTrainedModel, model)

    def decoder_tensors(self, names: AbstractSet[str]) -> Iterable[tuple[str, Tensor]]:
        """Return all of the decoder."""
        return self.tuned.decoder.items()

    def load_tokenizer(self) -> tuple[Tokenizer, int]:
        """Return the decoder's tokenizer with the tokens for times, and its padding id."""
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
        """Yield each part, unused files, and how positions are rotated."""
        parts, clip, internvideo2 = self.parts, self.clip.config, self.internvideo2.config
        yield (
            "clip",
            "ok",
            f"{parts.clip.parent.name}/{parts.clip.name}: {clip.num_hidden_layers} of "
            f"{clip.num_hidden_layers + 1} layers of {clip.hidden_size}, "
            f"{clip.num_attention_heads} heads, {clip.image_size} pixels",
        )
        yield (
            "internvideo",
            "ok",
            f"{parts.internvideo.name}: {internvideo2.num_blocks} of {internvideo2.num_blocks + 1} "
            f"blocks of {internvideo2.width}, {internvideo2.num_heads} heads, "
            f"{internvideo2.num_frames} frames of {internvideo2.image_size} pixels",
        )
        adapter, config = self.tuned.adapter, self.config
        yield (
            "checkpoint",
            "ok",
            f"{parts.checkpoint.name}: {parts.llm}, {config.num_hidden_layers} layers of "
            f"{config.hidden_size}, {self.vocab_size} rows, adapter of {len(adapter.pairs)} "
            f"layers, scale {adapter.scale:g}",
        )
        yield "base", "ok", parts.base.name
        yield "tokenizer", "ok", parts.tokenizer.name
        if parts.left_aside:
            yield "left aside", "ok", ", ".join(parts.left_aside)
        if parts.angles == "bfloat16":
            detail = "bfloat16, as the reference in 16 bits: 16 positions of 256 are told apart"
            yield "angles", "warn", detail
        else:
            yield "angles", "ok", "float32"

    def copy_places(self) -> dict[str, Path]:
        """Return places in the folders of the reference."""
        return copy_places(self.parts)

    def hashes(self) -> dict[str, Any]:
        """Return one hash of all: features lie behind the projectors, in one file with the rest."""
        parts = self.parts
        return {
            "sha256": files_sha256(
                copy_places(parts).items(),
                f"angles {parts.angles}",
                f"clip heads {self.clip.config.num_attention_heads}",
                f"internvideo heads {self.internvideo2.config.num_heads}",
            ),
            "vision_weights": f"{parts.clip.name}, {parts.internvideo.name}",
            "vision_sha256": None,
        }

    def vision_flop(self) -> float:
        """Return the arithmetic of the vision stage for one segment; a multiply-add is 2."""
        return self._vision_config.segment_flop()

    @property
    def _vision_config(self) -> VisionConfig:
        return VisionConfig(
            llm=self.parts.llm,
            clip=self.clip.config,
            internvideo2=self.internvideo2.config,
            hidden_size=self.config.hidden_size,
        )

    def _check(self) -> None:
        check_tensors(self.empty_vision(), self.vision_tensors())
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
        decoder = self.empty_decoder()
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
