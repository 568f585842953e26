"""Checkpoints in the reference's layout: the config that a stage writes, and files of weights.

Difference from the reference: the tokenizer's files are copied unchanged. The reference sets the
padding id to 0, which is `!` in Qwen2's vocabulary, and saves that; a tokenizer read back then
makes every `!` a padding token and the model drops it. Here padding is a mask over lengths, no id
is needed for it, and a `!` in a question survives.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from groundserve.errors import GroundserveError, InvalidRequestError, UnsupportedError
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.config import KNOWN_TOWERS, VisionConfig
from groundserve.weights.tensors import read_json
from train.config import StageConfig

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
MAX_FILE_BYTES = 5_000_000_000
"""Weights in one file, unless a tensor is larger; huggingface_hub's own default."""


def open_checkpoint(config: StageConfig) -> tuple[Checkpoint, dict[str, Any]]:
    """Open what a stage starts from, with the config it will write, and its own as found.

    `config.init` is a plain Qwen2 directory, to which `config.vision_tower` adds the tower, or the
    output of an earlier stage or of the reference.
    """
    directory = _existing("init", config.init)
    tower = None if config.vision_tower is None else _existing("vision_tower", config.vision_tower)
    found = read_json(directory / "config.json")
    _check_decoder(found)
    base = _with_vision(found, tower) if is_qwen2(found) else _without_variant(found, config)
    base = {**_UNREAD_KEYS, **base, **_stage_keys(config)}
    return Checkpoint.with_config(directory, base, vision_tower=tower), found


def is_known(raw_config: Mapping[str, Any]) -> bool:
    """Tell whether a config.json is of something that a stage may start from."""
    names = {model_type.lower() for _, model_type in _CLASS_NAMES.values()}
    return is_qwen2(raw_config) or str(raw_config.get("model_type")).lower() in names


def is_qwen2(raw_config: Mapping[str, Any]) -> bool:
    """Tell whether it is a plain language model's."""
    return raw_config.get("model_type") == "qwen2"


def is_grounding(raw_config: Mapping[str, Any]) -> bool:
    """Tell whether it is of a model that scores frames."""
    # The reference writes both spellings, `eagle_QwenG` and `Eagle_qwenG`.
    return str(raw_config.get("model_type")).lower() == "eagle_qweng"


def save_by_file(out: Path, tensors: Mapping[str, Tensor], read: Callable[[str], Tensor]) -> None:
    """Do what `save_torch_state_dict` does, holding the values of one file at a time.

    Only sizes and dtypes of `tensors` are looked at; `read` returns the values of one.
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
    if config.is_grounding and is_grounding(found) and variant != config.variant:
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


def _existing(name: str, directory: Path) -> Path:
    if not directory.is_dir():
        raise InvalidRequestError(f"{name} must be a folder, got {directory}")
    return directory.absolute()  # not resolved: a link's own name may be the tower's
