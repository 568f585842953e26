"""Grounded-VideoLLM in training, as the shared loop sees it; see `train.families.base`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from groundserve.errors import InvalidRequestError
from groundserve.families.grounded_videollm.decoder import (
    TunedState,
    decoder_config,
    read_newlines,
    rename_projectors,
)
from groundserve.families.grounded_videollm.layout import (
    DECODER_FOLDER,
    TUNED_FOLDER,
    PartsBefore,
    find_parts_before,
    shared_places,
)
from groundserve.families.grounded_videollm.plan import GroundedVideoLLMSpec
from groundserve.families.grounded_videollm.prompt import read_tokenizer
from groundserve.families.grounded_videollm.times import NEW_TOKENS
from groundserve.families.grounded_videollm.towers import read_clip, read_internvideo2
from groundserve.families.grounded_videollm.vision import (
    VisionConfig,
    VisionEncoder,
)
from groundserve.families.llama import is_llama_weight, llama_files
from groundserve.families.parts import write_choices
from groundserve.tokenizers.tokenizer_json import read_tokenizer_json
from groundserve.weights.tensors import fill_module, read_json, read_tensors
from groundserve.weights.torch_archive import read_torch_file
from train.config import Stage, StageConfig
from train.examples import Example
from train.families.base import StageFunction, TextTrainingFamily
from train.families.grounded_videollm.model import PEFT, Towers, empty_model, feature_shapes
from train.families.grounded_videollm.samples import Samples, parse
from train.families.grounded_videollm.stages import STAGES
from train.families.text_family import (
    TextInitial,
    TextSource,
    check_adapter,
    link_file,
    write_stage,
)
from train.families.text_model import drawing_from, new_adapters

FRAMES_PER_SEGMENT = 8
_STAGES = ("pretrain", "grounded", "sft")
"""By the reference's names, with which its files begin."""
_PROJECTOR_FILE = "multi_modal_projector.pth"
_TABLE, _HEAD = "model.embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True, kw_only=True, eq=False)
class Source(TextSource):
    """What a stage starts from, without weights."""

    config: StageConfig
    parts: PartsBefore
    vision_config: VisionConfig
    decoder_config: Any
    before: TunedState | None
    """Decoder and projectors as stage 2 left them."""

    @classmethod
    def open(cls, config: StageConfig) -> Source:
        """Find the parts and read their configs."""
        if not config.init.is_dir():
            raise InvalidRequestError(f"init must be a folder, got {config.init}")
        number = stage_number(config)
        if (config.adapter is None) != (number == 0):
            raise InvalidRequestError("adapter is what stages grounded and sft train; set it there")
        if number:
            check_adapter(config, rank=128, alpha=256)
        if config.vision_tower is not None:
            raise InvalidRequestError("vision_tower must be none: both towers are parts of init")
        if config.data.max_frames % FRAMES_PER_SEGMENT:
            raise InvalidRequestError(
                f"data.max_frames must be a multiple of {FRAMES_PER_SEGMENT}, the frames of a "
                f"segment, got {config.data.max_frames}"
            )
        stage_before = _STAGES[number - 1] if number else None
        # Absolute: a checkpoint is written from it at the end of the run.
        parts = find_parts_before(config.init.absolute(), config.parts.given, stage_before)
        before = None
        if number == 2:
            assert parts.before is not None, "found, or missing"
            before = TunedState.open(parts.before)
        whole = read_json(parts.model_config) if parts.model_config.is_file() else {}
        raw = read_json(parts.decoder_config)
        vocab_size = before.vocab_size if before else raw["vocab_size"]
        if number == 1:
            vocab_size += len(NEW_TOKENS)
        decoder = decoder_config(raw, parts.llm, vocab_size=vocab_size)
        clip = read_clip(
            parts.clip, num_heads=parts.clip_heads, described=whole.get("vision_config")
        )
        internvideo2 = read_internvideo2(
            parts.internvideo,
            num_frames=FRAMES_PER_SEGMENT,
            num_heads=parts.internvideo_heads,
        )
        vision_config = VisionConfig(
            llm=parts.llm,
            clip=clip.config,
            internvideo2=internvideo2.config,
            hidden_size=decoder.hidden_size,
        )
        return cls(
            config=config,
            parts=parts,
            vision_config=vision_config,
            decoder_config=decoder,
            before=before,
        )

    @cached_property
    def spec(self) -> GroundedVideoLLMSpec:
        """What serving would know of the model."""
        vision = self.vision_config
        return GroundedVideoLLMSpec(
            llm=self.parts.llm,
            num_segments=self.config.data.max_frames // FRAMES_PER_SEGMENT,
            temporal_size=vision.internvideo2.image_size,
            spatial_size=vision.clip.image_size,
            num_spatial_tokens=vision.num_spatial_tokens,
            num_temporal_tokens=vision.num_temporal_tokens,
            feature_width=vision.hidden_size,
            max_tokens=self.decoder_config.max_position_embeddings,
        )

    def samples(self, config: StageConfig) -> Samples:
        """Return the format of a run's samples; the first stage knows no tokens for times."""
        parts, writes_times = self.parts, stage_number(config) > 0
        tokenizer = (
            read_tokenizer(parts.tokenizer, parts.llm)[0]
            if writes_times
            else read_tokenizer_json(parts.tokenizer)
        )
        return Samples(config.data, spec=self.spec, tokenizer=tokenizer, writes_times=writes_times)

    def unit_flop(self) -> float:
        """Return the arithmetic of both towers for one segment."""
        return self.vision_config.clip.flop() + self.vision_config.internvideo2.flop()


@dataclass(frozen=True, kw_only=True, eq=False)
class Initial(TextInitial):
    """What a stage starts from."""

    source: Source
    vision: Towers
    max_encoded_units = 2  # segments, of which InternVideo2 sees 2,049 positions each

    def encode(self, examples: Sequence[Example]) -> list[Tensor]:
        """Encode segments; while the model is trained, branches are left out by chance."""
        self.vision.leaves_out_branches = self.model.training
        return super().encode(examples)

    def blank_example(self, *, num_auxiliary: int = 0) -> Example:
        """Return one segment of which the decoder sees P tokens."""
        blank = super().blank_example()
        return replace(blank, tokens_per_frame=self.source.spec.tokens_per_segment)

    def write_files(self, directory: Path, state_dict: Mapping[str, Tensor]) -> None:
        """Write the stage's file, beside all that it was trained upon.

        Source: WHB139426/Grounded-Video-LLM e26da4e,
        `training/fsdp.py::FSDPStrategy.save_checkpoint`.
        """
        source = self.source
        places = shared_places(source.parts)
        for path in (
            source.parts.base / _PROJECTOR_FILE,
            *llama_files(source.parts.base / DECODER_FOLDER),
        ):
            places[str(Path(source.parts.base.name) / path.relative_to(source.parts.base))] = path
        for place, path in places.items():
            link_file(path, directory / place)
        write_choices(directory, source.parts.choices)
        write_stage(directory, source.config)
        tensors = {
            self.model.file_name(name): state_dict[name].clone()
            for name, one in self.model.named_parameters()
            if one.requires_grad
        }
        if source.config.adapter is not None:  # frozen, as they were stored
            found = _decoder_tensors(source)
            frozen = {f"{PEFT}{name}": one for name, one in found}
            tensors = {**frozen, **tensors}
        modules: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            module, _, own = name.partition(".")
            modules.setdefault(module, {})[own] = tensor
        stage = _STAGES[stage_number(source.config)]
        order = [
            one
            for one in ("multi_modal_projector", "video_projecter", "language_model")
            if one in modules
        ]
        name = f"{stage}_llava_next_video_{source.parts.llm}_mix_{stage}_{'_'.join(order)}.pth"
        (directory / TUNED_FOLDER).mkdir(exist_ok=True)
        torch.save({"model": modules}, directory / TUNED_FOLDER / name)


def open_initial(config: StageConfig, *, num_auxiliary: int) -> Initial:
    """Read what a stage starts from and make what is new in it.

    A new temporal projector and the head's new bias start as torch's linear layers do, the new rows
    of tables and head as the mean of the others, an adapter as PEFT's; all are drawn from the run's
    seed.

    Source: WHB139426/Grounded-Video-LLM e26da4e, `models/llava_next_video.py`.
    """
    source = Source.open(config)
    vision_config = source.vision_config
    model = empty_model(config, source.decoder_config, vision_config)
    tensors = {f"front.{name}": tensor.float() for name, tensor in _front_tensors(source).items()}
    tensors |= {
        name.replace("model.", "decoder.", 1): tensor.float().clone()
        for name, tensor in _all_decoder_tensors(source).items()
    }
    new = {}
    if source.before is None and config.adapter is not None:
        shapes = {name: one.shape for name, one in model.named_parameters()}
        new = new_adapters(shapes, seed=config.seed)
    fill_module(model, tensors | new)
    (rows, width), (others, other_width) = feature_shapes(vision_config)
    return Initial(
        source=source,
        model=model,
        vision=_towers(source),
        feature_shape=(1, rows * width + others * other_width),
    )


def stage_number(config: StageConfig) -> int:
    """Return 0, 1 or 2."""
    return _STAGES.index(config.stage.removeprefix("grounded-videollm-"))


def _decoder_tensors(source: Source) -> Iterator[tuple[str, Tensor]]:
    """Yield the decoder's as stored, before it grows, without an adapter."""
    if source.before is not None:
        return iter(source.before.decoder.items())
    return iter(read_tensors(source.parts.base / DECODER_FOLDER, is_llama_weight, or_pickled=True))


def _all_decoder_tensors(source: Source) -> dict[str, Tensor]:
    if source.before is not None:
        return source.before.whole_decoder
    found = dict(_decoder_tensors(source))
    if source.config.adapter is None:
        return found
    for name in (_TABLE, _HEAD):
        mean = found[name].mean(dim=0, keepdim=True)
        found[name] = torch.cat([found[name], mean.expand(len(NEW_TOKENS), -1)])
    bias = _new_linear(source.config.seed, found[_HEAD].shape[1], len(found[_HEAD])).bias
    return {**found, "lm_head.bias": bias.detach()}


def _front_tensors(source: Source) -> dict[str, Tensor]:
    """Return projectors, and what stands between tokens, by the names of the vision stage."""
    parts = source.parts
    newlines = read_newlines(parts.newlines, parts.llm)
    if parts.before is not None:
        found = {
            name: one
            for name, one in read_torch_file(parts.before, inside="model").items()
            if not name.startswith("language_model.")
        }
        return {**newlines, **rename_projectors(found, parts.llm, where=parts.before.name)}
    path = parts.base / _PROJECTOR_FILE
    found = {f"multi_modal_projector.{name}": one for name, one in read_torch_file(path).items()}
    width, hidden_size = (
        source.vision_config.internvideo2.hidden_size,
        source.vision_config.hidden_size,
    )
    for name, size in (("up_proj", width), ("down_proj", hidden_size)):
        layer = _new_linear(source.config.seed, size, hidden_size)
        found |= {f"video_projecter.{name}.{kind}": one for kind, one in layer.state_dict().items()}
    return {**newlines, **rename_projectors(found, parts.llm, where=path.name)}


def _new_linear(seed: int, width: int, out: int) -> nn.Linear:
    with drawing_from(seed):
        return nn.Linear(width, out)


def _towers(source: Source) -> Towers:
    parts, config = source.parts, source.vision_config
    with torch.device("meta"):
        encoder = VisionEncoder(config)
    del encoder.spatial, encoder.temporal_projector
    clip = read_clip(parts.clip, num_heads=config.clip.num_attention_heads, described=None)
    internvideo2 = read_internvideo2(
        parts.internvideo,
        num_frames=FRAMES_PER_SEGMENT,
        num_heads=config.internvideo2.num_attention_heads,
    )
    tensors = {f"clip.{name}": one.float() for name, one in clip.tensors.items()}
    tensors |= {f"internvideo2.{name}": one.float() for name, one in internvideo2.tensors.items()}
    fill_module(encoder, {name: one.contiguous() for name, one in tensors.items()})
    return Towers(encoder.eval().requires_grad_(False))


class GroundedVideoLLM(TextTrainingFamily):
    """The family: projectors, then tables, head and adapter too, towers frozen."""

    stages: Mapping[Stage, StageFunction] = STAGES
    open_initial = staticmethod(open_initial)
    open_source = staticmethod(Source.open)
    parse_record = staticmethod(parse)
