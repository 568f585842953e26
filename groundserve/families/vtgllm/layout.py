"""Where the parts of a checkpoint lie: where the reference's evaluation YAML says they do."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from groundserve.families.parts import GivenParts, LlamaParts, PartSearch
from groundserve.families.vtgllm.config import TIME_FILLS, TimeFill, VTGLLMConfig

CONFIGS_NAME = "eval_configs"
"""Folder in which the reference has its YAML files."""
TRAIN_CONFIGS_NAME = "train_configs"
"""That of those for training, in folders of their own."""

_BERT_NAME = "bert-base-uncased"
BERT_PLACE = f"model/{_BERT_NAME}"

# Found without reading YAML, which only who builds has a package for.
_ARCH = re.compile(r"^\s*arch:\s*[\"']?vtgllm\b", re.MULTILINE)
# Part -> what it looks like, for who has to name it.
_LOOKS = {
    "config": f"a YAML file of the reference's evaluation, in the folder {CONFIGS_NAME}",
    "checkpoint": "the trained .pth file, ckpt in the YAML",
    "eva": "eva_vit_g.pth, vit_model in the YAML",
    "q_former": "InstructBLIP's .pth file, q_former_model in the YAML",
    "base": "a directory with Llama: config.json, weights, tokenizer.model; llama_model in the "
    "YAML",
    "bert": f"a directory with BERT's config.json and vocab.txt, {BERT_PLACE}",
}
_TIME_FILL = "time_fill"
_EVA_HEADS = "eva_heads"

PART_NAMES = (*_LOOKS, _TIME_FILL, _EVA_HEADS)


@dataclass(frozen=True, kw_only=True)
class Parts(LlamaParts):
    """Where each part lies, and what the YAML says of them."""

    config: VTGLLMConfig
    config_name: str
    checkpoint: Path
    eva: Path
    q_former: Path
    bert: Path
    """Directory of the Q-Former's sizes and vocabulary."""
    time_fill: TimeFill
    """What seconds that training never saw are embedded as."""
    eva_heads: int | None


def is_layout(directory: Path) -> bool:
    """Tell whether a directory has a YAML file of the reference's evaluation."""
    return any(_is_config(path) for path in _yaml_files(directory))


def find_parts(directory: Path, given: GivenParts, *, begins: bool = False) -> Parts:
    """Find the parts that are not given; paths in the YAML are relative to the directory.

    What training `begins` with has a YAML of training, or is of a checkpoint that was trained.
    """
    search = PartSearch(
        directory,
        given,
        family="vtgllm",
        looks=_LOOKS,
        switches={_TIME_FILL: TIME_FILLS},
        numbers=(_EVA_HEADS,),
    )
    files = search.part("config", lambda: _find_config(search, begins=begins))
    # Without one all that is not given is missing, and said to be.
    config = VTGLLMConfig.read(files[0], begins=begins) if files else VTGLLMConfig()
    search.part("checkpoint", lambda: _named(directory, config.ckpt))
    search.part("eva", lambda: _named(directory, config.vit_model))
    search.part("q_former", lambda: _named(directory, config.q_former_model))
    search.part("base", lambda: _named(directory, config.llama_model))
    search.part("bert", lambda: _find_bert(directory))
    fields = search.fields()
    filled = "reference" if config.time_embedding_interpolation else "none"
    fields |= {"config": config, "config_name": fields["config"].name}
    return Parts(**fields, time_fill=cast(TimeFill, search.switch(_TIME_FILL, filled)))


def copy_config(config: VTGLLMConfig) -> VTGLLMConfig:
    """Return the YAML of a copy: in a cache of the hub a file is named by its content."""
    return replace(
        config,
        ckpt="model/vtgllm.pth",
        vit_model="model/eva_vit_g.pth",
        q_former_model="model/instruct_blip.pth",
        llama_model="model/llama",
    )


def copy_places(parts: Parts, base_files: Sequence[Path]) -> dict[str, Path]:
    """Return where in a copy, as `copy_config` says, each file that is read goes."""
    config = copy_config(parts.config)
    return {
        config.ckpt: parts.checkpoint,
        config.vit_model: parts.eva,
        config.q_former_model: parts.q_former,
        **{f"{config.llama_model}/{file.name}": file for file in base_files},
        **{f"{BERT_PLACE}/{file.name}": file for file in bert_files(parts.bert)},
    }


def bert_files(directory: Path) -> list[Path]:
    """Return the files of BERT that are read."""
    found = (directory / name for name in ("config.json", "vocab.txt"))
    return [path for path in found if path.is_file()]


def _find_config(search: PartSearch, *, begins: bool) -> Sequence[Path]:
    # Each describes another model.
    paths = _yaml_files(search.directory)
    if begins:
        paths = sorted((search.directory / TRAIN_CONFIGS_NAME).rglob("*.yaml")) or paths
    found = [path for path in paths if _is_config(path)]
    return search.at_most_one("config", found)


def _find_bert(directory: Path) -> Sequence[Path]:
    places = (directory / BERT_PLACE, directory / _BERT_NAME)
    return [place for place in places if (place / "config.json").is_file()][:1]


def _named(directory: Path, place: str) -> Sequence[Path]:
    """Return where the YAML says that a part lies, () where it says nothing or is wrong."""
    path = directory / os.path.expanduser(place)
    return (path,) if place and os.path.exists(path) else ()


def _yaml_files(directory: Path) -> list[Path]:
    try:
        return sorted((directory / CONFIGS_NAME).glob("*.yaml"))
    except (OSError, ValueError):
        return []


def _is_config(path: Path) -> bool:
    try:
        return _ARCH.search(path.read_text("utf-8")) is not None
    except (OSError, ValueError):
        return False
