"""VideoITG in training, as the shared loop sees it: `train.families.base` describes each method."""

from __future__ import annotations

import copy
import json
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from groundserve.errors import InvalidRequestError
from groundserve.families.videoitg.checkpoint import (
    Checkpoint,
    model_tensors,
    reference_names,
    tower_names,
)
from groundserve.families.videoitg.prompt import IMAGE_TOKEN_ID
from groundserve.families.videoitg.vision import VisionEncoder
from groundserve.weights.tensors import fill_module
from train.config import Stage, StageConfig
from train.examples import IGNORE_INDEX, Example, Text
from train.families.base import SampleCost, SampleFlops, StageFunction
from train.families.videoitg.layout import (
    is_grounding,
    is_known,
    is_qwen2,
    open_checkpoint,
    save_by_file,
)
from train.families.videoitg.models import (
    AnchorModel,
    Trunk,
    encode_frames,
    model_class,
)
from train.families.videoitg.samples import Samples, sample_cost, sample_flops
from train.families.videoitg.stages import STAGES

logger = logging.getLogger(__name__)

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "chat_template.jinja",
)
_TOWER_FILES = ("config.json", "preprocessor_config.json")
_AUXILIARY = "auxiliary"


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """What a stage starts from, without weights."""

    checkpoint: Checkpoint
    """Its `directory` and `tower_directory` are read again whenever a checkpoint is written, and
    have to stay; its config is the one that this stage will write."""

    def samples(self, config: StageConfig) -> Samples:
        """Return the format of a run's samples."""
        tokenizer, pad_token_id = self.checkpoint.load_tokenizer()
        return Samples(
            config.data,
            stage=config.stage,
            tokenizer=tokenizer,
            pad_token_id=pad_token_id,
            image_size=self.checkpoint.vision_config.image_size,
            side=self.checkpoint.vision_config.side,
        )

    def sample_cost(self, config: StageConfig) -> SampleCost:
        """Return by what a run's samples are dealt to processes."""
        return sample_cost(config, self.checkpoint.config, self.checkpoint.vision_config)

    def sample_flops(self, config: StageConfig, **sizes: int) -> SampleFlops:
        """Return what one sequence costs in training."""
        return sample_flops(config, self.checkpoint.config, self.checkpoint.vision_config, **sizes)


@dataclass(frozen=True, kw_only=True, eq=False)
class Initial(Source):
    """What a stage starts from."""

    vision: VisionEncoder
    """float32, frozen, in evaluation mode."""
    model: Trunk
    """float32 on the CPU, in training mode; what the stage trains requires a gradient."""

    def encode(self, examples: Sequence[Example]) -> list[Tensor]:
        """Encode and pool the frames of a batch."""
        return encode_frames(self.vision, examples)

    def blank_example(self, *, num_auxiliary: int = 0) -> Example:
        """Return one black frame and no question."""
        text = Text(
            ids=np.array([IMAGE_TOKEN_ID], np.int64),
            targets=np.array([IGNORE_INDEX], np.int64),
            labels=np.zeros(1, np.float32),
        )
        size = self.vision.image_size
        return Example(
            frames=np.zeros((1, size, size, 3), np.uint8),
            tokens_per_frame=1,
            texts=(text,),
            frame_targets=np.zeros((1, num_auxiliary), np.float32),
        )

    def write_files(self, directory: Path, state_dict: Mapping[str, Tensor]) -> None:
        """Write model and tokenizer.

        The whole vision tower is among the weights, and once more in a folder of its own, where the
        loader looks for it.
        """
        source = self.checkpoint
        tower = source.tower_tensors()
        model = {
            name: tensor.to("meta")
            for name, tensor in self.model.state_dict().items()
            if not name.startswith(f"{_AUXILIARY}.")
        }
        tensors = reference_names(tower, model)
        stored = tensors["model.norm.weight"].dtype
        raw_config = {**source.raw_config, "torch_dtype": str(stored).removeprefix("torch.")}
        if isinstance(self.model, AnchorModel):
            raw_config["grounding_variant"] = "anchor"
        text = json.dumps(raw_config, indent=2, sort_keys=True)
        (directory / "config.json").write_text(text + "\n", "utf-8")
        ours = dict(zip(reference_names({}, model), model, strict=True))

        def read(name: str) -> Tensor:
            return state_dict[ours[name]] if name in ours else tensors[name]

        save_by_file(directory, tensors, read)
        _copy_files(source.directory, directory, _TOKENIZER_FILES)
        if source.tower_directory is not None:
            own = directory / Path(source.config.mm_vision_tower).name
            own.mkdir()
            _copy_files(source.tower_directory, own, _TOWER_FILES)
            own_tensors = tower_names(tower)
            save_by_file(own, own_tensors, own_tensors.__getitem__)
        if raw_config["tune_mm_mlp_adapter"]:
            # What the reference's own stage 2 asks for; nothing here reads it.
            projector = {name: read(name) for name in tensors if "mm_projector" in name}
            torch.save(projector, directory / "mm_projector.bin")


def open_initial(config: StageConfig, *, num_auxiliary: int) -> Initial:
    """Read what a stage starts from and make what is new in it.

    A new projector starts as torch's linear layers do, a new head (or auxiliary layer) as
    N(0, `initializer_range` of its config), with zero bias; both are drawn from the run's seed.
    Where a Qwen2 model shares its embedding table with the LM head, the LM head starts as a copy
    and is trained by itself.

    Source: NVlabs/VideoITG fab8b54, `train_vlm.py::train`, `train_itg.py::train`.
    """
    source, found = open_checkpoint(config)
    directory = source.directory
    model = _load_model(config, source, found, num_auxiliary=num_auxiliary)
    if config.stage == "projector":
        model.requires_grad_(False)
        model.projector.requires_grad_(True)
        if model.auxiliary is not None:
            model.auxiliary.requires_grad_(True)
    tokenizer, pad_token_id = source.load_tokenizer()
    if tokenizer.get_vocab_size() > source.config.vocab_size:
        raise InvalidRequestError(
            f"init {directory}: the tokenizer has {tokenizer.get_vocab_size()} ids, the embedding "
            f"table {source.config.vocab_size} rows; give the tokenizer that belongs to the model"
        )
    if tokenizer.id_to_token(pad_token_id) == "!":
        logger.warning('the padding token of %s is "!"; questions lose theirs', directory)
    return Initial(checkpoint=source, vision=source.load_vision(), model=model)


def _load_model(
    config: StageConfig, source: Checkpoint, found: dict[str, Any], *, num_auxiliary: int
) -> Trunk:
    with torch.device("meta"):
        model = model_class(config.stage, config.variant)(
            source.config, num_auxiliary=num_auxiliary, auxiliary_weight=config.auxiliary_weight
        )
    tensors = model_tensors(source.directory, copy=True)
    unwanted = "lm_head." if config.is_grounding else "head."
    dropped = [name for name in tensors if name.startswith(unwanted)]
    tensors = {name: tensor for name, tensor in tensors.items() if name not in dropped}
    loaded = _parts(tensors)
    is_tied = found.get("tie_word_embeddings") is True
    table = tensors.get("decoder.embed_tokens.weight")
    if is_tied and table is not None and "lm_head" not in loaded and not config.is_grounding:
        tensors["lm_head.weight"] = table.clone()
    may_be_new = {_AUXILIARY, "lm_head" if is_grounding(found) else "head"}
    if is_qwen2(found):
        may_be_new.add("projector")
    names, std = may_be_new - _parts(tensors), source.config.initializer_range
    new = _new_tensors(model, names, seed=config.seed, std=std)
    said = (loaded, _parts(tensors) - loaded, _parts(new), dropped)
    logger.info(
        "%s: loaded %s; copied from the embedding table: %s; new: %s; dropped: %s",
        source.directory,
        *(", ".join(sorted(names)) or "nothing" for names in said),
    )
    fill_module(model, tensors | new)
    return model


def _new_tensors(model: Trunk, names: set[str], *, seed: int, std: float) -> dict[str, Tensor]:
    """Draw the weights of the named modules that the model has, always in the same order."""
    tensors: dict[str, Tensor] = {}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for name in ("projector", "lm_head", "head", _AUXILIARY):
            module = getattr(model, name, None)
            if name not in names or module is None:
                continue
            if isinstance(module, nn.Linear):
                bias = module.bias is not None
                module = nn.Linear(module.in_features, module.out_features, bias=bias)
                # As transformers starts what is missing; upstream that undoes the head's Xavier.
                nn.init.normal_(module.weight, std=std)
                if bias:
                    nn.init.zeros_(module.bias)
            else:
                module = copy.deepcopy(module).to_empty(device="cpu")
                for layer in module:
                    if isinstance(layer, nn.Linear):
                        layer.reset_parameters()
            tensors |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    return tensors


def _parts(names: Iterable[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def _copy_files(source: Path, out: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)


class VideoITG:
    """The family: projector and decoder through four stages, the tower frozen."""

    stages: Mapping[Stage, StageFunction] = STAGES
    recognises = staticmethod(is_known)
    open_initial = staticmethod(open_initial)

    def open_source(self, config: StageConfig) -> Source:
        """Open what a stage starts from."""
        return Source(checkpoint=open_checkpoint(config)[0])
