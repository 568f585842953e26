"""VTG-LLM in training, as the shared loop sees it: `train.families.base` describes each method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.llama import is_llama_weight, llama_config, llama_files
from groundserve.families.parts import write_choices
from groundserve.families.vtgllm.checkpoint import FRONT_NAMES, resized
from groundserve.families.vtgllm.eva import EvaConfig
from groundserve.families.vtgllm.layout import (
    CONFIGS_NAME,
    Parts,
    copy_config,
    copy_places,
    find_parts,
)
from groundserve.families.vtgllm.plan import VTGLLMSpec
from groundserve.families.vtgllm.prompt import VIDEO_PLACEHOLDER
from groundserve.families.vtgllm.state import (
    ALPHA,
    EMBEDDING,
    HEAD,
    RANK,
    TrainedState,
    read_eva_config,
    read_vision_tensors,
)
from groundserve.families.vtgllm.times import TIME_TOKENS
from groundserve.families.vtgllm.vision import QFormerConfig, VisionEncoder
from groundserve.tokenizers.llama_added_tokens import AddedTokensLlamaTokenizer
from groundserve.tokenizers.sentencepiece import read_llama_tokenizer
from groundserve.weights.tensors import fill_module, read_json, read_tensors
from train.config import Stage, StageConfig
from train.examples import Example
from train.families.base import StageFunction, TextTrainingFamily
from train.families.text_family import (
    TextInitial,
    TextSource,
    check_adapter,
    link_file,
    write_stage,
)
from train.families.text_model import drawing_from, new_adapters
from train.families.vtgllm.model import Model, Tower, empty_model
from train.families.vtgllm.samples import Samples, parse
from train.families.vtgllm.stages import STAGES

_PUBLISHED = {
    "sampler_type": "slot",
    "real_time_stamp": True,
    "special_time_token": True,
    "qformer_text_input": False,
}
_FROZEN = ("visual_encoder.", "ln_vision.")
DIGITS = "0123456789."
"""Whose rows those of the tokens of times begin as, in their order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Source(TextSource):
    """What a stage starts from, without weights."""

    config: StageConfig
    parts: Parts
    trained: TrainedState
    """What was trained before: by Video-LLaMA, or by this stage."""
    eva: EvaConfig
    q_former: QFormerConfig
    decoder_config: Any
    num_pooled: int
    adapts_mlp = False

    @classmethod
    def open(cls, config: StageConfig) -> Source:
        """Find the parts and read their configs."""
        check_adapter(config, rank=RANK, alpha=ALPHA)
        if config.vision_tower is not None:
            raise InvalidRequestError("vision_tower must be none: EVA is a part of init")
        # Absolute: a checkpoint is written from it at the end of the run.
        parts = find_parts(config.init.absolute(), config.parts.given, begins=True)
        described = parts.config
        if any(getattr(described, name) != value for name, value in _PUBLISHED.items()):
            raise UnsupportedError(
                f"the part config {parts.config_name}: it must have {_PUBLISHED}, as the published "
                "ones for training have; others are served, and not trained"
            )
        if config.data.max_frames > described.max_frame_pos:
            raise InvalidRequestError(
                f"data.max_frames must be at most max_frame_pos of {parts.config_name}, "
                f"{described.max_frame_pos}, got {config.data.max_frames}"
            )
        trained = TrainedState.open(parts)
        raw = read_json(parts.base / "config.json")
        num_tokens = _read_tokenizer(parts).get_vocab_size()
        return cls(
            config=config,
            parts=parts,
            trained=trained,
            num_pooled=described.sample_num,
            eva=read_eva_config(parts, trained),
            q_former=QFormerConfig.from_dict(read_json(parts.bert / "config.json")),
            decoder_config=llama_config(
                raw, where=f"the part base {parts.base.name}", vocab_size=num_tokens
            ),
        )

    @cached_property
    def spec(self) -> VTGLLMSpec:
        """What serving would know of the model."""
        described = self.parts.config
        return VTGLLMSpec(
            num_frames=self.config.data.max_frames,
            image_size=self.eva.image_size,
            tokens_per_frame=described.num_query_token,
            num_slots=described.sample_num,
            num_time_rows=described.max_time_pos,
        )

    def samples(self, config: StageConfig) -> Samples:
        """Return the format of a run's samples."""
        tokenizer = AddedTokensLlamaTokenizer(_read_tokenizer(self.parts))
        return Samples(config.data, spec=self.spec, tokenizer=tokenizer)

    def unit_flop(self) -> float:
        """Return EVA's arithmetic for a frame, and the Q-Former's, which has a backward pass."""
        return self.eva.flop() + 3 * self.q_former.frame_flop(
            num_queries=self.parts.config.num_query_token,
            num_text=0,
            num_read=self.eva.num_positions,
            read_width=self.eva.hidden_size,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Initial(TextInitial):
    """What a stage starts from."""

    source: Source

    def blank_example(self, *, num_auxiliary: int = 0) -> Example:
        """Return one frame, at second 0."""
        blank, second = super().blank_example(), np.zeros(1, np.float32)
        return replace(blank, front_arrays=(second,), num_pooled=self.source.num_pooled)

    def write_files(self, directory: Path, state_dict: Mapping[str, Tensor]) -> None:
        """Write the trained file, beside all that it was trained upon, and a YAML for both.

        The adapter is in it also where it stays as it was, and so is what the file before had.

        Source: gyxxyg/VTG-LLM ce13f3e, `vtgllm/runners/runner_base.py::_save_checkpoint`.
        """
        parts, before = self.source.parts, self.source.trained
        config = copy_config(parts.config)
        places = copy_places(parts, llama_files(parts.base))
        del places[config.ckpt]
        for place, path in places.items():
            link_file(path, directory / place)
        frozen = {name: one for name, one in before.vision.items() if name.startswith(_FROZEN)}
        frozen |= {
            self.model.file_name(name.replace("model.", "decoder.", 1)): one
            for name, one in before.decoder.items()
        }
        tensors = frozen | {
            self.model.file_name(name): state_dict[name].clone()
            for name, one in self.model.named_parameters()
            if one.requires_grad or ".lora_" in name
        }
        (directory / config.ckpt).parent.mkdir(parents=True, exist_ok=True)
        torch.save({"model": tensors}, directory / config.ckpt)
        (directory / CONFIGS_NAME).mkdir()
        config.write(directory / CONFIGS_NAME / "vtgllm.yaml")
        write_choices(directory, parts.choices)
        write_stage(directory, self.source.config)


def open_initial(config: StageConfig, *, num_auxiliary: int) -> Initial:
    """Read what a stage starts from and make what is new in it.

    New rows of tables and head are copies of those of the digits and the point; that of the video's
    place, slots and a new adapter are drawn from the run's seed; what seconds add starts as 0.

    Source: gyxxyg/VTG-LLM ce13f3e, `vtgllm/models/vtgllm.py`.
    """
    source = Source.open(config)
    model, encoder = empty_model(
        config,
        source.decoder_config,
        described=source.parts.config,
        eva=source.eva,
        q_former=source.q_former,
    )
    vision = _vision_tensors(source, encoder)
    kept = ("q_former.", "query_tokens")
    tensors = {f"front.{name}": one for name, one in vision.items() if name.startswith(kept)}
    tensors |= {f"front.pool.{name}": one for name, one in _front_tensors(source, model).items()}
    tensors |= {
        name.replace("model.", "decoder.", 1): one for name, one in _decoder_tensors(source).items()
    }
    shapes = {name: one.shape for name, one in model.named_parameters()}
    adapters = new_adapters(shapes, seed=config.seed)
    for name, (a, b) in source.trained.adapter.pairs.items():
        layer = name.replace("model.", "decoder.", 1).removesuffix(".weight")
        adapters |= {f"{layer}.lora_A.weight": a.float(), f"{layer}.lora_B.weight": b.float()}
    fill_module(model, {name: one.contiguous() for name, one in (tensors | adapters).items()})
    del encoder.q_former, encoder.query_tokens
    fill_module(encoder, {name: one for name, one in vision.items() if not name.startswith(kept)})
    return Initial(
        source=source,
        model=model,
        vision=Tower(encoder.eval().requires_grad_(False)),
        feature_shape=(source.eva.num_positions, source.eva.hidden_size),
    )


def _read_tokenizer(parts: Parts) -> Any:
    return read_llama_tokenizer(parts.base, special=(VIDEO_PLACEHOLDER,), added=TIME_TOKENS)


def _vision_tensors(source: Source, encoder: VisionEncoder) -> dict[str, Tensor]:
    names = encoder.state_dict().keys()
    found = read_vision_tensors(source.parts, source.trained, names)
    return {name: found[name].float().contiguous() for name in names if name in found}


def _front_tensors(source: Source, model: Model) -> dict[str, Tensor]:
    """Return what pools the vectors; a table of places of another length is resized."""
    pool = model.front.pool
    found = {FRONT_NAMES.get(n, n): one.float() for n, one in source.trained.front.items()}
    if "places.weight" in found:
        found["places.weight"] = resized(found["places.weight"], pool.places.num_embeddings)
    new = {name: torch.zeros(one.shape) for name, one in pool.named_parameters()}
    with drawing_from(source.config.seed):
        nn.init.normal_(new["sampler.slots"])
        linear = nn.Linear(pool.projection.in_features, pool.projection.out_features)
    new |= {f"projection.{name}": one.detach() for name, one in linear.named_parameters()}
    return new | found


def _decoder_tensors(source: Source) -> dict[str, Tensor]:
    """Return the decoder's, frozen ones rounded to bfloat16, as the reference trains upon them."""
    stored = read_tensors(source.parts.base, is_llama_weight, or_pickled=True)
    found = {name: one.to(torch.bfloat16).float() for name, one in stored}
    found |= {name: one.float().clone() for name, one in source.trained.decoder.items()}
    if source.parts.config.added_time_token:
        return found
    tokenizer = AddedTokensLlamaTokenizer(_read_tokenizer(source.parts))
    # Of a digit written alone the last piece.
    digits = [tokenizer.encode(one)[-1] for one in DIGITS]
    with drawing_from(source.config.seed):
        std = source.decoder_config.initializer_range
        places = [torch.randn(1, found[name].shape[1]) * std for name in (EMBEDDING, HEAD)]
    for name, place in zip((EMBEDDING, HEAD), places, strict=True):
        found[name] = torch.cat([found[name], place, found[name][digits]])
    return found


class VTGLLM(TextTrainingFamily):
    """The family: Q-Former, front, tables, head and an adapter, EVA frozen."""

    stages: Mapping[Stage, StageFunction] = STAGES
    open_initial = staticmethod(open_initial)
    open_source = staticmethod(Source.open)
    parse_record = staticmethod(parse)
