"""Read a checkpoint: what was trained, and from the files before it what the trained one lacks."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LlamaForCausalLM

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.base import FindingRow
from groundserve.families.llama import llama_files
from groundserve.families.parts import GivenParts
from groundserve.families.rotary import RotaryTables
from groundserve.families.text_checkpoint import OpenedLlamaCheckpoint, tower_sizes
from groundserve.families.vtgllm.frame_text import FrameText
from groundserve.families.vtgllm.front import Front, fill_seconds, seconds_finding
from groundserve.families.vtgllm.layout import (
    CONFIGS_NAME,
    Parts,
    bert_files,
    copy_config,
    copy_places,
    find_parts,
)
from groundserve.families.vtgllm.plan import VTGLLMSpec
from groundserve.families.vtgllm.prompt import VIDEO_PLACEHOLDER
from groundserve.families.vtgllm.state import (
    EMBEDDING,
    TrainedState,
    read_eva_config,
    read_vision_tensors,
)
from groundserve.families.vtgllm.times import TIME_TOKENS
from groundserve.families.vtgllm.vision import QFormerConfig, VisionEncoder
from groundserve.tokenizers.sentencepiece import read_llama_tokenizer
from groundserve.weights.hashes import files_sha256
from groundserve.weights.tensors import filled_module, read_json, read_tensors

_MAX_TOKENS = 3000
"""Prompt and answer together, from which on the reference drops the prompt's beginning."""

# Of the front: the reference's name -> ours.
FRONT_NAMES = {
    "video_frame_position_embedding.weight": "places.weight",
    "video_time_position_embedding": "seconds.weight",
    "llama_proj.weight": "projection.weight",
    "llama_proj.bias": "projection.bias",
}


class Checkpoint(OpenedLlamaCheckpoint):
    """An opened checkpoint; tensors are read when a module is asked for."""

    parts: Parts

    def __init__(self, directory: Path, given: GivenParts) -> None:
        super().__init__(directory, given)
        self.parts = parts = find_parts(directory, given)
        self.trained = TrainedState.open(parts)
        self.adapters = (self.trained.adapter,)
        # The trained file has rows of its own for tokens that were added.
        table = self.trained.decoder.get(EMBEDDING)
        if table is not None and not (table.ndim == 2 and len(table)):
            raise InvalidRequestError(
                f"the part checkpoint {parts.checkpoint.name}: {EMBEDDING} must have a row for "
                f"each token, got {tuple(table.shape)}; download it again"
            )
        self.read_config(vocab_size=None if table is None else len(table))
        self.eva = read_eva_config(parts, self.trained)
        self.q_former = QFormerConfig.from_dict(read_json(parts.bert / "config.json"))
        # The sentence that the Q-Former reads; None where it reads none.
        self.frame_text = FrameText.read(parts.bert) if parts.config.qformer_text_input else None
        self._check()

    def empty_vision(self) -> VisionEncoder:
        """Return tower and Q-Former on the meta device."""
        with torch.device("meta"):
            return VisionEncoder(
                self.eva,
                self.q_former,
                num_queries=self.parts.config.num_query_token,
                num_words=self.frame_text.num_words if self.frame_text else 0,
            )

    def vision_tensors(self, names: AbstractSet[str]) -> dict[str, Tensor]:
        """Return those that were trained, and of the files before what these lack."""
        return read_vision_tensors(self.parts, self.trained, names)

    def load_front(self, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Front:
        """Read what stands before the decoder."""
        config = self.parts.config
        with torch.device("meta"):
            model = Front(
                num_frames=config.max_frame_pos,
                num_time_rows=config.max_time_pos if config.real_time_stamp else None,
                sampler=config.sampler_type,
                num_slots=config.sample_num,
                feature_width=self.q_former.hidden_size,
                hidden_size=self.config.hidden_size,
            )
        tensors = {
            FRONT_NAMES.get(name, name): tensor.to(torch.float32)
            for name, tensor in self.trained.front.items()
        }
        if "places.weight" in tensors:
            tensors["places.weight"] = resized(tensors["places.weight"], config.max_frame_pos)
        if "seconds.weight" in tensors:
            filled = fill_seconds(tensors["seconds.weight"], self.parts.time_fill)
            tensors["seconds.weight"] = filled
        return filled_module(
            model,
            {n: t.to(dtype) if n.startswith("projection.") else t for n, t in tensors.items()},
            device,
        )

    def empty_decoder(self) -> LlamaForCausalLM:
        """Return the decoder on the meta device."""
        model = super().empty_decoder()
        # Filled while bfloat16 is the default, and widened with the model.
        model.model.rotary_emb = RotaryTables.of(self.config, rounding=torch.bfloat16)
        return model

    def decoder_tensors(self, names: AbstractSet[str]) -> Iterator[tuple[str, Tensor]]:
        """Yield what was trained and the base's rest, rounded to bfloat16 as the reference does."""
        trained = self.trained.decoder
        missing = names - trained.keys()
        wanted = missing.__contains__
        found = read_tensors(self.parts.base, wanted, or_pickled=True) if missing else ()
        for name, tensor in chain(trained.items(), found):
            yield name, tensor.to(torch.bfloat16)

    def load_tokenizer(self) -> tuple[Tokenizer, int]:
        """Return Llama's tokenizer as a fast one, and the padding id, which is that of <unk>."""
        time_tokens = self.parts.config.special_time_token
        tokenizer = read_llama_tokenizer(
            self.parts.base,
            special=(VIDEO_PLACEHOLDER,),
            added=TIME_TOKENS if time_tokens else (),
        )
        # Without tokens of times the decoder has no row for the placeholder either, never read.
        num_rows = tokenizer.get_vocab_size() - (not time_tokens)
        if num_rows != self.vocab_size:
            raise InvalidRequestError(
                f"{self.where}: its tokenizer and what the model adds make {num_rows} tokens, the "
                f"decoder has {self.vocab_size}; give a directory whose files belong together"
            )
        return self.checked_tokenizer(tokenizer)

    def model_spec(self, *, pad_token_id: int) -> VTGLLMSpec:
        """Return what serving must know."""
        config, text = self.parts.config, self.frame_text
        return VTGLLMSpec(
            num_frames=config.max_frame_pos,
            image_size=self.eva.image_size,
            tokens_per_frame=config.num_query_token + self._num_text,
            feature_width=self.q_former.hidden_size,
            num_slots=None if config.sampler_type == "none" else config.sample_num,
            num_time_rows=config.max_time_pos if config.real_time_stamp else None,
            # Behind its positions the reference makes new tables, which are rounded otherwise.
            max_tokens=min(_MAX_TOKENS, self.config.max_position_embeddings),
            hidden_size=self.config.hidden_size,
            end_token_id=self.end_token_id,
            time_tokens=config.special_time_token,
            frame_text_before=text.before if text else [],
            frame_text_digits=text.digits if text else [],
            frame_text_after=text.after if text else [],
        )

    def findings(self) -> Iterator[FindingRow]:
        """Yield each part, how vectors are pooled, and which seconds the model knows."""
        parts, q_former, adapter = self.parts, self.q_former, self.trained.adapter
        yield "config", "ok", parts.config_name
        adapted = f"{len(adapter.pairs)} adapted layers, scale {adapter.scale:g}"
        detail = f"{parts.checkpoint.name}: {adapted}, {self.vocab_size} tokens"
        yield "checkpoint", "ok", detail
        yield "eva", "ok", f"{parts.eva.name}: {tower_sizes(self.eva)}"
        detail = f"{q_former.num_hidden_layers} layers of {q_former.hidden_size}, "
        detail += f"{parts.config.num_query_token} queries"
        detail += ", reads each frame's time" if self.frame_text else ""
        yield "q_former", "ok", f"{parts.q_former.name}: {detail}"
        yield self.base_finding
        pooled, num_slots = parts.config.sampler_type, parts.config.sample_num
        yield "sampler", "ok", pooled if pooled == "none" else f"{pooled}: {num_slots}"
        yield "time tokens", "ok", "yes" if parts.config.special_time_token else "no"
        if names := self.trained.left_aside:
            some = f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]
            yield "left aside", "warn", f"{some}: of no use to the model of {parts.config_name}"
        if parts.config.real_time_stamp:
            table = self.trained.front["video_time_position_embedding"]
            yield seconds_finding(table, parts.time_fill)

    def copy_to(self, directory: Path) -> None:
        """Write a copy of all parts, and a YAML that says where they are."""
        super().copy_to(directory)
        (directory / CONFIGS_NAME).mkdir()
        copy_config(self.parts.config).write(directory / CONFIGS_NAME / "copy.yaml")

    def copy_places(self) -> dict[str, Path]:
        """Return places that the copy's YAML says."""
        return copy_places(self.parts, llama_files(self.parts.base))

    def hashes(self) -> dict[str, Any]:
        """Return those of all, and of the vision stage."""
        parts, config = self.parts, self.parts.config
        files = [("checkpoint", parts.checkpoint), ("eva", parts.eva), ("q_former", parts.q_former)]
        files += [(f"bert/{path.name}", path) for path in bert_files(parts.bert)]
        vision_sha256 = files_sha256(
            files,
            f"queries {config.num_query_token}",
            f"text {config.qformer_text_input}",
            f"heads {self.eva.num_attention_heads}",
        )
        rest = [(f"base/{path.name}", path) for path in llama_files(parts.base)]
        return {
            "sha256": files_sha256(
                rest,
                f"vision {vision_sha256}",
                f"rows {config.max_frame_pos} {config.max_time_pos} {config.real_time_stamp}",
                f"sampler {config.sampler_type} {config.sample_num}",
                f"time tokens {config.special_time_token}",
                f"time fill {parts.time_fill}",
            ),
            "vision_weights": parts.checkpoint.name,
            "vision_sha256": vision_sha256,
        }

    def vision_flop(self) -> float:
        """Return the arithmetic of the vision stage for one frame; a multiply-add is 2."""
        return self.eva.flop() + self.q_former.frame_flop(
            num_queries=self.parts.config.num_query_token,
            num_text=self._num_text,
            num_read=self.eva.num_positions,
            read_width=self.eva.hidden_size,
        )

    @property
    def _num_text(self) -> int:
        return self.frame_text.length if self.frame_text else 0

    def _check(self) -> None:
        parts, config = self.parts, self.parts.config
        if config.image_size != self.eva.image_size:
            raise UnsupportedError(
                f"the part config {parts.config_name}: image_size must be {self.eva.image_size}, "
                f"as the tower has it, got {config.image_size}"
            )
        where = f"the part checkpoint {parts.checkpoint.name}"
        width = self.q_former.hidden_size
        expected: dict[str, tuple[int | None, ...]] = {
            "video_frame_position_embedding.weight": (None, width),  # which is resized
            "llama_proj.weight": (self.config.hidden_size, width),
            "llama_proj.bias": (self.config.hidden_size,),
        }
        if config.real_time_stamp:
            expected["video_time_position_embedding"] = (config.max_time_pos, width)
        if config.sampler_type == "slot":
            expected["sampler.slots"] = (width, config.sample_num)
        for name, shape in expected.items():
            tensor = self.trained.front.get(name)
            got = None if tensor is None else tuple(tensor.shape)
            if (
                got is None
                or len(got) != len(shape)
                or 0 in got
                or any(want not in (None, size) for want, size in zip(shape, got, strict=True))
            ):
                asked = ", ".join("any" if one is None else str(one) for one in shape)
                raise InvalidRequestError(
                    f"{where}: {name} must be ({asked}) by {parts.config_name} and the parts bert "
                    f"and base, got {got or 'none'}; give parts of one model"
                )
        shapes = {name: tuple(t.shape) for name, t in self.empty_decoder().state_dict().items()}
        for name, tensor in self.trained.decoder.items():
            if shapes.get(name) != tuple(tensor.shape):
                raise InvalidRequestError(
                    f"{where}: the decoder's {name} is {tuple(tensor.shape)}, that of the part "
                    f"base {parts.base.name} is {shapes.get(name) or 'none'}; give parts of one "
                    "model"
                )
        self.trained.adapter.check(shapes)


def resized(table: Tensor, num_rows: int) -> Tensor:
    """Return the embedding of places for more or fewer frames: each row is its nearest one's."""
    if len(table) == num_rows:
        return table
    # (rows, D) as one picture of D channels
    return F.interpolate(table.T.unsqueeze(0), size=num_rows, mode="nearest")[0].T.contiguous()
