"""Checkpoints in the reference's layout: what a stage starts from, and what it writes.

A directory that is written opens by itself: model and tokenizer, the whole vision tower among the
weights and once more in a folder of its own, where the loader looks for it.

Difference from the reference: the tokenizer's files are copied unchanged. The reference sets the
padding id to 0, which is `!` in Qwen2's vocabulary, and saves that; a tokenizer read back then
makes every `!` a padding token and the model drops it. Here padding is a mask over lengths, no id
is needed for it, and a `!` in a question survives.
"""

from __future__ import annotations

import copy
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from groundserve.errors import GroundserveError, InvalidRequestError, UnsupportedError
from groundserve.families.videoitg.checkpoint import (
    Checkpoint,
    model_tensors,
    reference_names,
    tower_names,
)
from groundserve.families.videoitg.config import KNOWN_TOWERS, CheckpointConfig, VisionConfig
from groundserve.families.videoitg.prompt import IMAGE_TOKEN_ID
from groundserve.families.videoitg.vision import VisionEncoder
from groundserve.weights.tensors import fill_module, read_json
from train.config import StageConfig
from train.cost import SampleCost
from train.examples import IGNORE_INDEX, Example, Text
from train.families.videoitg.flops import sample_cost
from train.families.videoitg.models import Trunk, encode_frames, model_class, new_linear
from train.families.videoitg.samples import Samples

logger = logging.getLogger(__name__)

# Grounding's are the reference's. Those of stages 1 to 3 follow its class name and were not
# compared with a published config: none was at hand.
_CLASS_NAMES = {
    True: ("EagleQwenG", "eagle_QwenG"),
    False: ("EagleQwenForCausalLM", "eagle_qwen"),
}
# What a Qwen2 directory says about its decoder.
_QWEN2_KEYS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "rms_norm_eps",
    "hidden_act",
    "max_position_embeddings",
    "max_window_layers",
    "use_sliding_window",
    "initializer_range",
    "bos_token_id",
    "eos_token_id",
)
# What becomes of it with a vision tower in front; read by the loader.
_VISION_KEYS = {
    "mm_vision_select_layer": -2,
    "mm_vision_select_feature": "patch",
    "mm_projector_type": "seq_mlp",
    "mm_use_4_vision_tokens": False,
    "mm_patch_merge_type": "flat",
    "mm_use_im_start_end": False,
    "mm_use_im_patch_token": False,
}
# Written by the reference too, but read by nothing that scores frames.
_UNREAD_KEYS = {
    "attention_dropout": 0.0,
    "rope_scaling": None,
    "sliding_window": None,
    "tokenizer_padding_side": "right",
    "image_aspect_ratio": "square",
    "use_mm_proj": True,
    "save_mm_mlp_adapter": False,
    "freeze_mm_mlp_adapter": False,
    "mm_projector_lr": None,
    "use_cache": True,
}
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

MAX_FILE_BYTES = 5_000_000_000
"""Weights in one file, unless a tensor is larger; huggingface_hub's own default."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Initial:
    """What a stage starts from."""

    raw_config: dict[str, Any]
    """config.json as this stage will write it."""
    checkpoint_config: CheckpointConfig
    vision: VisionEncoder
    """float32, frozen, in evaluation mode."""
    model: Trunk
    """float32 on the CPU, in training mode; what the stage trains requires a gradient."""
    tokenizer: Tokenizer
    """With every special token registered."""
    pad_token_id: int
    """As its files say; serving drops this id from a question."""
    source: Checkpoint
    """Its `directory` and `tower_directory` are read again whenever a checkpoint is written, and
    have to stay."""

    def samples(self, config: StageConfig) -> Samples:
        """See `train.families.base.Initial`."""
        return Samples(
            config.data,
            stage=config.stage,
            tokenizer=self.tokenizer,
            pad_token_id=self.pad_token_id,
            image_size=self.vision.image_size,
            side=self.vision.side,
        )

    def sample_cost(self, config: StageConfig) -> SampleCost:
        """See `train.families.base.Initial`."""
        return sample_cost(
            self.checkpoint_config,
            self.source.vision_config,
            is_trained=config.stage != "projector",
            is_causal=self.model.is_causal,
            recomputes=config.gradient_checkpointing,
        )

    def encode(self, examples: Sequence[Example]) -> list[Tensor]:
        """See `encode_frames`."""
        return encode_frames(self.vision, examples)

    def blank_example(self, *, num_auxiliary: int = 0) -> Example:
        """See `train.families.base.Initial`."""
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
        """See `train.families.base.Initial`."""
        source = self.source
        tower = source.tower_tensors()
        model = {
            name: tensor.to("meta")
            for name, tensor in self.model.state_dict().items()
            if not name.startswith(f"{_AUXILIARY}.")
        }
        tensors = reference_names(tower, model)
        stored = tensors["model.norm.weight"].dtype
        raw_config = {**self.raw_config, "torch_dtype": str(stored).removeprefix("torch.")}
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

    `config.init` is a plain Qwen2 directory, to which `config.vision_tower` adds the tower, or the
    output of an earlier stage or of the reference. A new projector starts as torch's linear layers
    do, a new head (or auxiliary layer) as N(0, `initializer_range` of its config), with zero bias;
    both are drawn from the run's seed. Where a Qwen2 model shares its embedding table with
    the LM head, the LM head starts as a copy and is trained by itself.

    Raises:
        InvalidRequestError: A directory or file is missing, tensors are missing or unknown, or the
            tokenizer has more ids than the embedding table has rows.
        UnsupportedError: The model differs from what this code computes.

    Source: NVlabs/VideoITG fab8b54, `train_vlm.py::train`, `train_itg.py::train`.
    """
    source, found = _open_source(config)
    directory = source.directory
    model = _load_model(config, source, found, num_auxiliary=num_auxiliary)
    _freeze(model, config)
    tokenizer, pad_token_id = source.load_tokenizer()
    if tokenizer.get_vocab_size() > source.config.vocab_size:
        raise InvalidRequestError(
            f"init {directory}: the tokenizer has {tokenizer.get_vocab_size()} ids, the embedding "
            f"table {source.config.vocab_size} rows; give the tokenizer that belongs to the model"
        )
    if tokenizer.id_to_token(pad_token_id) == "!":
        logger.warning('the padding token of %s is "!"; questions lose theirs', directory)
    variant = {"grounding_variant": "anchor"} if config.variant == "anchor" else {}
    return Initial(
        raw_config={**source.raw_config, **variant},
        checkpoint_config=source.config,
        vision=source.load_vision(),
        model=model,
        tokenizer=tokenizer,
        pad_token_id=pad_token_id,
        source=source,
    )


def open_source(config: StageConfig) -> Checkpoint:
    """Open what a stage starts from, with the config it is trained by; no weights are read.

    Raises:
        InvalidRequestError, UnsupportedError: As `open_initial`.
    """
    return _open_source(config)[0]


def save_by_file(out: Path, tensors: Mapping[str, Tensor], read: Callable[[str], Tensor]) -> None:
    """Do what `save_torch_state_dict` does, holding the values of one file at a time.

    Args:
        out: Folder.
        tensors: All of them, of the sizes and dtypes that they have; values are not looked at.
        read: Returns one.

    Raises:
        GroundserveError: A file cannot be written.
    """
    split = split_torch_state_dict_into_shards(
        {name: tensor.to("meta") for name, tensor in tensors.items()},
        max_shard_size=MAX_FILE_BYTES,
    )
    for file, names in split.filename_to_tensors.items():
        try:
            save_file({name: read(name) for name in names}, out / file, metadata={"format": "pt"})
        except SafetensorError as error:
            raise GroundserveError(f"cannot write {out / file}: {error}") from error
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        text = json.dumps(index, indent=2)
        (out / "model.safetensors.index.json").write_text(text + "\n", "utf-8")


def _check_decoder(raw_config: dict[str, Any]) -> None:
    rope = _rope(raw_config)
    scaling = rope.get("rope_type", rope.get("type", "default"))
    for key, value, supported in (
        ("rope_scaling", scaling, "default"),
        ("attention_dropout", raw_config.get("attention_dropout", 0.0), 0.0),
    ):
        if value != supported:
            raise UnsupportedError(f"init: {key} must be {supported}, got {value!r}")


def _rope(raw_config: dict[str, Any]) -> dict[str, Any]:
    # transformers 5 writes base and scaling under one key.
    return raw_config.get("rope_parameters") or raw_config.get("rope_scaling") or {}


def _with_vision(qwen2: dict[str, Any], tower: Path | None) -> dict[str, Any]:
    """Return the config of a Qwen2 model behind a vision tower."""
    if tower is None:
        raise InvalidRequestError(
            "vision_tower must be given: init is a plain Qwen2 model, and has none"
        )
    if "siglip" not in tower.name.lower():
        raise InvalidRequestError(
            f'the folder of vision_tower must have "siglip" in its name, which the reference asks '
            f'for, got "{tower.name}"; rename it'
        )
    kept = {key: qwen2[key] for key in _QWEN2_KEYS if qwen2.get(key) is not None}
    theta = qwen2.get("rope_theta", _rope(qwen2).get("rope_theta"))
    if theta is not None:
        kept["rope_theta"] = theta
    vision_config = VisionConfig.from_dict(read_json(tower / "config.json"))
    return {
        **kept,
        **_VISION_KEYS,
        # The reference loads its tower from the hub by this name.
        "mm_vision_tower": f"google/{tower.name}" if tower.name in KNOWN_TOWERS else tower.name,
        "mm_hidden_size": vision_config.hidden_size,
    }


def _without_variant(found: dict[str, Any], config: StageConfig) -> dict[str, Any]:
    """Return a checkpoint's config without its variant, which must be that of the stage."""
    base = dict(found)
    variant = base.pop("grounding_variant", "pooling")
    if config.is_grounding and _is_grounding(found) and variant != config.variant:
        raise InvalidRequestError(
            f'variant must be "{variant}", as init was trained, got "{config.variant}"; '
            "start from the output of stage 3"
        )
    return base


def _stage_keys(config: StageConfig) -> dict[str, Any]:
    architecture, model_type = _CLASS_NAMES[config.is_grounding]
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "vision_token_num": config.data.vision_token_num,
        "vision_min_num": config.data.vision_min_num,
        "tokenizer_model_max_length": config.data.max_length,
        "tie_word_embeddings": False,
        "tune_mm_mlp_adapter": config.stage == "projector",
        "transformers_version": transformers.__version__,
    }


def is_known(raw_config: Mapping[str, Any]) -> bool:
    """Tell whether a config.json is of something that a stage may start from."""
    names = {model_type.lower() for _, model_type in _CLASS_NAMES.values()}
    return _is_qwen2(raw_config) or str(raw_config.get("model_type")).lower() in names


def _is_qwen2(raw_config: Mapping[str, Any]) -> bool:
    return raw_config.get("model_type") == "qwen2"


def _is_grounding(raw_config: Mapping[str, Any]) -> bool:
    # The reference writes both spellings, `eagle_QwenG` and `Eagle_qwenG`.
    return str(raw_config.get("model_type")).lower() == "eagle_qweng"


def _open_source(config: StageConfig) -> tuple[Checkpoint, dict[str, Any]]:
    """Return it with its own config.json as found."""
    directory = _existing("init", config.init)
    tower = None if config.vision_tower is None else _existing("vision_tower", config.vision_tower)
    found = read_json(directory / "config.json")
    _check_decoder(found)
    base = _with_vision(found, tower) if _is_qwen2(found) else _without_variant(found, config)
    base = {**_UNREAD_KEYS, **base, **_stage_keys(config)}
    return Checkpoint.with_config(directory, base, vision_tower=tower), found


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
    may_be_new = {_AUXILIARY, "lm_head" if _is_grounding(found) else "head"}
    if _is_qwen2(found):
        may_be_new.add("projector")
    new = _new_tensors(
        model,
        may_be_new - _parts(tensors),
        seed=config.seed,
        std=source.config.initializer_range,
    )
    logger.info(
        "%s: loaded %s; copied from the embedding table: %s; new: %s; dropped: %s",
        source.directory,
        *(
            ", ".join(sorted(names)) or "nothing"
            for names in (loaded, _parts(tensors) - loaded, _parts(new), dropped)
        ),
    )
    fill_module(model, tensors | new)
    return model


def _new_tensors(model: Trunk, names: set[str], *, seed: int, std: float) -> dict[str, Tensor]:
    """Draw the weights of the named modules that the model has, always in the same order."""
    tensors: dict[str, Tensor] = {}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for name in ("projector", "lm_head", "head", _AUXILIARY):
            module = getattr(model, name, None) if name in names else None
            if isinstance(module, nn.Linear):
                has_bias = module.bias is not None
                module = new_linear(module.in_features, module.out_features, std=std, bias=has_bias)
            elif module is not None:
                module = copy.deepcopy(module).to_empty(device="cpu")
                for layer in module:
                    if isinstance(layer, nn.Linear):
                        layer.reset_parameters()
            if module is not None:
                tensors |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    return tensors


def _freeze(model: Trunk, config: StageConfig) -> None:
    """Leave what the stage trains; the vision tower is no part of the model."""
    if config.stage != "projector":
        return
    model.requires_grad_(False)
    model.projector.requires_grad_(True)
    if model.auxiliary is not None:
        model.auxiliary.requires_grad_(True)


def _parts(names: Iterable[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def _existing(name: str, directory: Path) -> Path:
    if not directory.is_dir():
        raise InvalidRequestError(f"{name} must be a folder, got {directory}")
    return directory.absolute()  # not resolved: a link's own name may be the tower's


def _copy_files(source: Path, out: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)
