"""Read a checkpoint: two towers, and what the last stage trained of projectors and decoder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.base import FindingRow
from groundserve.families.grounded_videollm.decoder import (
    TunedState,
    decoder_config,
    empty_decoder,
    read_newlines,
)
from groundserve.families.grounded_videollm.layout import Parts, copy_places, find_parts
from groundserve.families.grounded_videollm.plan import PHI_3_5, GroundedVideoLLMSpec
from groundserve.families.grounded_videollm.prompt import read_tokenizer
from groundserve.families.grounded_videollm.towers import read_clip, read_internvideo2
from groundserve.families.grounded_videollm.vision import Front, VisionConfig, VisionEncoder
from groundserve.families.parts import GivenParts
from groundserve.families.text_checkpoint import OpenedTextCheckpoint
from groundserve.strict_json import shown
from groundserve.weights.hashes import files_sha256
from groundserve.weights.tensors import check_tensors, read_json


class Checkpoint(OpenedTextCheckpoint):
    """An opened checkpoint; its tensors are mapped and read when a module is asked for."""

    parts: Parts

    def __init__(self, directory: Path, given: GivenParts) -> None:
        super().__init__(directory, given)
        self.parts = parts = find_parts(directory, given)
        # Of the model that the base was cut from; not always there.
        whole = read_json(parts.model_config) if parts.model_config.is_file() else {}
        # What stands between the layers of the spatial projector.
        activation = whole.get("projector_hidden_act", "gelu")
        if activation != "gelu":
            raise UnsupportedError(
                f"{parts.model_config.parent.name}: projector_hidden_act must be gelu, got "
                f"{shown(activation)}"
            )
        self.raw_config = read_json(parts.decoder_config)
        self.tuned = TunedState.open(parts.checkpoint)
        self.adapters = (self.tuned.adapter,)
        self.config = decoder_config(self.raw_config, parts.llm, vocab_size=self.tuned.vocab_size)
        self.clip = read_clip(
            parts.clip, num_heads=parts.clip_heads, described=whole.get("vision_config")
        )
        self.internvideo2 = read_internvideo2(
            parts.internvideo,
            num_frames=PHI_3_5.frames_per_segment,
            num_heads=parts.internvideo_heads,
        )
        # Vectors between rows and segments.
        self.newlines = read_newlines(parts.newlines, parts.llm)
        self.vision_config = VisionConfig(
            llm=parts.llm,
            clip=self.clip.config,
            internvideo2=self.internvideo2.config,
            hidden_size=self.config.hidden_size,
        )
        self._check()

    def empty_vision(self) -> VisionEncoder:
        """Return both towers and both projectors on the meta device."""
        try:
            with torch.device("meta"):
                return VisionEncoder(self.vision_config)
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
        vision = self.vision_config
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
        num_blocks = clip.num_hidden_layers
        detail = f"{num_blocks} of {num_blocks + 1} layers of {clip.hidden_size}, "
        detail += f"{clip.num_attention_heads} heads, {clip.image_size} pixels"
        yield "clip", "ok", f"{parts.clip.parent.name}/{parts.clip.name}: {detail}"
        num_blocks = internvideo2.num_hidden_layers
        detail = f"{num_blocks} of {num_blocks + 1} blocks of {internvideo2.hidden_size}, "
        detail += f"{internvideo2.num_attention_heads} heads, "
        detail += f"{internvideo2.num_frames} frames of {internvideo2.image_size} pixels"
        yield "internvideo", "ok", f"{parts.internvideo.name}: {detail}"
        adapter, config = self.tuned.adapter, self.config
        detail = f"{config.num_hidden_layers} layers of {config.hidden_size}, {self.vocab_size} "
        detail += f"rows, adapter of {len(adapter.pairs)} layers, scale {adapter.scale:g}"
        yield "checkpoint", "ok", f"{parts.checkpoint.name}: {parts.llm}, {detail}"
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
                f"internvideo heads {self.internvideo2.config.num_attention_heads}",
            ),
            "vision_weights": f"{parts.clip.name}, {parts.internvideo.name}",
            "vision_sha256": None,
        }

    def vision_flop(self) -> float:
        """Return the arithmetic of the vision stage for one segment; a multiply-add is 2."""
        return self.vision_config.segment_flop()

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
