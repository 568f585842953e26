"""VTimeLLM in training, as the shared loop sees it: `train.families.base` describes each method."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from groundserve.errors import InvalidRequestError
from groundserve.families.llama import empty_llama, is_llama_weight, llama_config, llama_files
from groundserve.families.vtimellm.clip import ClipSource
from groundserve.families.vtimellm.layout import (
    PROJECTOR_NAME,
    PartsBefore,
    find_parts_before,
)
from groundserve.families.vtimellm.plan import VTimeLLMSpec
from groundserve.families.vtimellm.vision import Projector, VisionEncoder
from groundserve.tokenizers.llama_tokenizer import LlamaTokenizer
from groundserve.tokenizers.sentencepiece import read_llama_tokenizer
from groundserve.weights.lora import Adapter, merge
from groundserve.weights.tensors import fill_module, filled_module, read_json, read_tensors
from groundserve.weights.torch_archive import read_torch_file
from train.config import Stage, StageConfig
from train.families.base import StageFunction, TextTrainingFamily
from train.families.text_family import NoVision, TextInitial, TextSource, link_file, write_stage
from train.families.text_model import (
    ADAPTER,
    TextModel,
    add_adapters,
    drawing_from,
    new_adapters,
    train_only,
)
from train.families.vtimellm.samples import Samples, parse
from train.families.vtimellm.stages import STAGES

FEATURE_WIDTH = VTimeLLMSpec().feature_width
"""Of CLIP's class vector, where there is no tower that says it."""
_PROJECTOR = "front.linear."
_PEFT_PREFIX = "base_model.model."
# Of a decoder by transformers' names -> by those of the model that is trained.
_DECODER = ("model.", "decoder.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Source(TextSource):
    """What a stage starts from, without weights."""

    config: StageConfig
    parts: PartsBefore
    clip: ClipSource | None
    decoder_config: Any

    @classmethod
    def open(cls, config: StageConfig) -> Source:
        """Find the parts and read their configs."""
        if not config.init.is_dir():
            raise InvalidRequestError(f"init must be a folder, got {config.init}")
        if (config.adapter is None) != (config.stage == "vtimellm-1"):
            raise InvalidRequestError(
                f"adapter is what stages 2 and 3 train, and stage 1 has none; set it in those "
                f'alone, not in stage "{config.stage}"'
            )
        # Absolute: a checkpoint is written from it at the end of the run.
        parts = find_parts_before(config.init.absolute(), stage_number(config))
        path = config.vision_tower or parts.clip
        where = f"the part base {parts.base.name}"
        raw = read_json(parts.base / "config.json")
        return cls(
            config=config,
            parts=parts,
            clip=None if path is None else ClipSource(path, num_heads=None),
            decoder_config=llama_config(raw, where=where, model_types=("llama", "VTimeLLM")),
        )

    @property
    def feature_width(self) -> int:
        """D_v."""
        if self.clip is not None:
            return self.clip.config.projection_dim
        if self.parts.projector is not None:
            (width,) = {one.shape[1] for one in _projector(self.parts.projector) if one.ndim == 2}
            return int(width)
        return FEATURE_WIDTH

    def samples(self, config: StageConfig) -> Samples:
        """Return the format of a run's samples."""
        tokenizer = LlamaTokenizer(read_llama_tokenizer(self.parts.base))
        spec = VTimeLLMSpec(num_frames=config.data.max_frames, feature_width=self.feature_width)
        return Samples(config, spec=spec, tokenizer=tokenizer)

    def unit_flop(self) -> float:
        """Return CLIP's arithmetic for a frame."""
        return 0.0 if self.clip is None else self.clip.config.flop()


class Model(TextModel):
    """Projector and decoder."""

    def file_name(self, parameter: str) -> str:
        """Return the name in `mm_projector.bin` or `adapter_model.bin`, else that in the base."""
        if parameter.startswith(_PROJECTOR):
            return f"model.mm_projector.{parameter.removeprefix(_PROJECTOR)}"
        theirs, ours = _DECODER
        name = parameter.replace(ours, theirs, 1)
        return f"{_PEFT_PREFIX}{name}" if ADAPTER in parameter else name


@dataclass(frozen=True, kw_only=True, eq=False)
class Initial(TextInitial):
    """What a stage starts from."""

    source: Source

    def write_files(self, directory: Path, state_dict: Mapping[str, Tensor]) -> None:
        """Write the stage's own folder, beside all that it was trained upon.

        Source: huangb23/VTimeLLM c34ae56, `vtimellm/train/train.py`.
        """
        config, parts = self.source.config, self.source.parts
        for path in llama_files(parts.base):
            link_file(path, directory / parts.base.name / path.name)
        if self.source.clip is not None:
            for path in self.source.clip.files:
                folder = "clip" if path.suffix == ".pt" else path.parent.name
                link_file(path, directory / folder / path.name)
        first = [one.parent for one in (parts.projector,) if one is not None]
        for stage_folder in (*first, *parts.adapters):
            for path in (one for one in stage_folder.iterdir() if one.is_file()):
                link_file(path, directory / stage_folder.name / path.name)
        own = directory / f"vtimellm-{parts.variant}-stage{stage_number(config)}"
        own.mkdir()
        raw = {**read_json(parts.base / "config.json"), "model_type": "VTimeLLM"}
        _write_json(own / "config.json", raw)
        names = [name for name, one in self.model.named_parameters() if one.requires_grad]
        trained = {self.model.file_name(name): state_dict[name].clone() for name in names}
        write_stage(directory, config)
        if config.adapter is None:
            torch.save(trained, own / PROJECTOR_NAME)
            return
        torch.save(trained, own / "adapter_model.bin")
        torch.save({}, own / "non_lora_trainables.bin")
        _write_json(own / "adapter_config.json", _peft_config(config, parts.base, names))


def open_initial(config: StageConfig, *, num_auxiliary: int) -> Initial:
    """Read what a stage starts from and make what is new in it.

    A new projector starts as torch's linear layers do, an adapter as PEFT's; both are drawn from
    the run's seed. Adapters of stages before are merged into the base, in float32.
    """
    source = Source.open(config)
    width, hidden_size = source.feature_width, source.decoder_config.hidden_size
    model = empty_model(config, source.decoder_config, feature_width=width)
    tensors = {
        name.replace(*_DECODER, 1): tensor for name, tensor in _decoder_tensors(source).items()
    }
    if source.parts.projector is None:
        with drawing_from(config.seed):
            linear = nn.Linear(width, hidden_size)
        found = dict(linear.state_dict())
    else:
        weight, bias = _projector(source.parts.projector)
        found = {"weight": weight.float(), "bias": bias.float()}
    tensors |= {f"{_PROJECTOR}{kind}": one for kind, one in found.items()}
    shapes = {name: one.shape for name, one in model.named_parameters()}
    fill_module(model, tensors | new_adapters(shapes, seed=config.seed))
    return Initial(source=source, model=model, vision=_vision(source), feature_shape=(1, width))


def empty_model(config: StageConfig, decoder: Any, *, feature_width: int) -> Model:
    """Return a stage's model on the meta device, in which what it trains requires a gradient."""
    causal = empty_llama(decoder, where="the part base")
    with torch.device("meta"):
        model = Model(Projector(feature_width, decoder.hidden_size), causal)
    if config.adapter is not None:
        add_adapters(model.decoder, config.adapter)
    train_only(model, (_PROJECTOR,) if config.adapter is None else (ADAPTER,))
    return model


def stage_number(config: StageConfig) -> int:
    """Return 1, 2 or 3."""
    return int(config.stage.removeprefix("vtimellm-"))


def _decoder_tensors(source: Source) -> dict[str, Tensor]:
    adapters = [Adapter.open(one) for one in source.parts.adapters]
    found = dict(read_tensors(source.parts.base, is_llama_weight, or_pickled=True))
    for adapter in adapters:
        adapter.check({name: tensor.shape for name, tensor in found.items()})
    return {
        name: merge(name, tensor, adapters, dtype=torch.float32).clone()
        for name, tensor in found.items()
    }


def _projector(path: Path) -> tuple[Tensor, Tensor]:
    """Return weight and bias; in the first stage's file names have any prefix."""
    found = {name.rpartition(".")[2]: one for name, one in read_torch_file(path).items()}
    if found.keys() != {"weight", "bias"}:
        raise InvalidRequestError(
            f"the part projector {path}: it must hold weight and bias, got {sorted(found)}"
        )
    return found["weight"], found["bias"]


def _vision(source: Source) -> nn.Module:
    if source.clip is None:
        return NoVision()
    with torch.device("meta"):
        vision = VisionEncoder(source.clip.config, antialias=False)
    tensors = {name: one.float().contiguous() for name, one in source.clip.tensors().items()}
    return filled_module(vision, tensors, "cpu")


def _peft_config(config: StageConfig, base: Path, names: list[str]) -> dict[str, Any]:
    assert config.adapter is not None, "a stage of an adapter"
    adapter = asdict(config.adapter)
    return {
        "base_model_name_or_path": base.name,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": adapter["alpha"],
        "lora_dropout": adapter["dropout"],
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": adapter["rank"],
        "target_modules": sorted({name.split(".")[-3] for name in names}),
        "task_type": "CAUSAL_LM",
    }


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", "utf-8")


class VTimeLLM(TextTrainingFamily):
    """The family: a projector, then one adapter upon another, CLIP frozen."""

    stages: Mapping[Stage, StageFunction] = STAGES
    open_initial = staticmethod(open_initial)
    open_source = staticmethod(Source.open)
    parse_record = staticmethod(parse)
