"""Where the parts of a checkpoint lie, in the folders that the reference's instructions name."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.parts import PartSearch

PROJECTOR_NAME = "mm_projector.bin"
"""The projector, in the folder of the first stage."""

_ADAPTER_CONFIG = "adapter_config.json"
_STAGE = re.compile(r"vtimellm-(?P<variant>.+)-stage(?P<stage>[1-9]\d*)")
_NOT_SERVED = "chatglm"
# Part -> what it looks like, for who has to name it.
_LOOKS = {
    "clip": "OpenAI's .pt file, in the folder clip, or a directory of transformers",
    "base": "a directory with Vicuna: config.json, weights, tokenizer.model",
    "projector": f"{PROJECTOR_NAME}, in the folder vtimellm-*-stage1",
    "adapter": "the folder vtimellm-*-stage2, and -stage3 where there is one",
}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Where each part lies."""

    clip: Path
    """OpenAI's file, or a directory of transformers."""
    base: Path
    """Directory of the decoder before it was adapted, with its tokenizer."""
    projector: Path
    adapters: tuple[Path, ...]
    """Directories, in the order in which they are merged."""
    antialias: bool
    clip_heads: int | None
    choices: Mapping[str, str]
    """Of `antialias` and `clip_heads` what was given, for a copy."""
    left_aside: tuple[str, ...]
    """What was found as well and is not used, by name."""


def is_layout(directory: Path) -> bool:
    """Tell whether a directory, or its folder `checkpoints`, has folders of the stages."""
    return any(_stages(directory)) or any(_stages(directory / "checkpoints"))


def stage_name(variant: str, stage: int) -> str:
    """Return the name of the folder of a stage."""
    return f"vtimellm-{variant}-stage{stage}"


def find_parts(directory: Path, given: Mapping[str, Sequence[str | Path]]) -> Parts:
    """Find the parts that are not given.

    Args:
        directory: That `is_layout`, or any where all parts are given.
        given: Of `clip`, `base`, `projector` and `adapter` files or directories, looked for as they
            are and then below `directory`; of `antialias` "on" or "off"; of `clip_heads` a number.

    Raises:
        InvalidRequestError: A part is missing, or there are several of which one is to be named.
        UnsupportedError: It is the model with ChatGLM3.
    """
    if not os.path.isdir(directory):  # Path's own raises where a name is too long
        raise InvalidRequestError(f"checkpoint {directory}: no such directory")
    if not any(_stages(directory)) and any(_stages(directory / "checkpoints")):
        directory = directory / "checkpoints"
    search = PartSearch(
        directory,
        given,
        family="vtimellm",
        looks=_LOOKS,
        repeated=("adapter",),
        switches={"antialias": ("on", "off")},
        numbers=("clip_heads",),
    )
    layout = _Layout(search)
    clip = search.part("clip", layout.clip)
    projector = search.part("projector", layout.projector)
    adapters = search.part("adapter", layout.adapters)
    base = search.part("base", layout.base)
    antialias = search.switch("antialias", "off")
    heads = search.number("clip_heads")
    search.refuse_missing()
    return Parts(
        clip=clip[0],
        base=base[0],
        projector=_inside(projector[0], PROJECTOR_NAME),
        adapters=adapters,
        antialias=antialias == "on",
        clip_heads=heads,
        choices=search.choices,
        left_aside=tuple(search.left_aside),
    )


class _Layout:
    """Where each part lies in the folders of the stages and beside them."""

    def __init__(self, search: PartSearch) -> None:
        self._search = search
        self._directory = search.directory

    def clip(self) -> Sequence[Path]:
        """Find OpenAI's file; of several the archive as published; else a directory."""
        from groundserve.weights.torch_archive import is_script_archive  # needs PyTorch

        files = sorted((self._directory / "clip").glob("*.pt"))
        folders = [path for path in self._search.folders if _model_type(path).startswith("clip")]
        chosen = files if len(files) == 1 else [one for one in files if is_script_archive(one)]
        if not files:
            chosen = folders
        if len(chosen) != 1 and (files or folders):
            raise self._search.several("clip", chosen or files)
        self._search.leave_aside(path for path in [*files, *folders] if path not in chosen)
        return chosen

    def projector(self) -> Sequence[Path]:
        """Find the first stage's."""
        path = self._stages_of_variant().get(1)
        return (path,) if path and (path / PROJECTOR_NAME).is_file() else ()

    def adapters(self) -> Sequence[Path]:
        """Find those of the stages from the second on."""
        stages = self._stages_of_variant()
        found = {
            stage: path
            for stage, path in sorted(stages.items())
            if stage > 1 and (path / _ADAPTER_CONFIG).is_file()
        }
        gap = [stage for stage in range(2, max(found, default=1)) if stage not in found]
        if gap:
            raise InvalidRequestError(
                f"{self._search.where}: {found[max(found)].name} was trained upon stage {gap[0]}, "
                "which is missing; an adapter goes with all before it"
            )
        used = set(found.values())
        self._search.leave_aside(
            path
            for path in self._search.folders
            if (path / _ADAPTER_CONFIG).is_file() and path not in used
        )
        return tuple(found.values())

    def base(self) -> Sequence[Path]:
        """Find the one decoder; of several that which the adapters say they were trained on."""
        found = [path for path in self._search.folders if _may_be_base(path)]
        if len(found) <= 1:
            return found
        adapters = self._search.found("adapter")
        trained_on = {_base_name(path / _ADAPTER_CONFIG) for path in adapters}
        named = [path for path in found if path.name in trained_on]
        if len(named) != 1:
            raise self._search.several("base", found)
        self._search.leave_aside(path for path in found if path not in named)
        return named

    def _stages_of_variant(self) -> dict[int, Path]:
        variants: dict[str, dict[int, Path]] = {}
        for variant, stage, path in _stages(self._directory):
            variants.setdefault(variant, {})[stage] = path
        served = {name: one for name, one in variants.items() if _NOT_SERVED not in name.lower()}
        where = self._search.where
        if variants and not served:
            raise UnsupportedError(
                f"{where}: VTimeLLM with ChatGLM3 is not served; the one with Vicuna is"
            )
        if len(served) > 1:
            raise InvalidRequestError(
                f"{where}: there are several models ({', '.join(sorted(served))}); name the "
                "parts of one with --part projector=PATH --part adapter=PATH --part base=PATH"
            )
        return next(iter(served.values()), {})


def _stages(directory: Path) -> Iterator[tuple[str, int, Path]]:
    """Yield variant, stage and folder of each stage."""
    try:
        paths = sorted(directory.iterdir())
    except (OSError, ValueError):
        return
    for path in paths:
        match = _STAGE.fullmatch(path.name)
        if match and path.is_dir():
            yield match["variant"], int(match["stage"]), path


def _inside(path: Path, name: str) -> Path:
    return path / name if path.is_dir() else path


def _may_be_base(directory: Path) -> bool:
    """Tell whether a folder has weights that are no adapter's, and neither CLIP's nor ChatGLM's."""
    has_weights = any(directory.glob("*.safetensors")) or any(directory.glob("pytorch_model*.bin*"))
    is_other = _model_type(directory).startswith(("clip", _NOT_SERVED))
    return has_weights and not is_other and not (directory / _ADAPTER_CONFIG).is_file()


def _model_type(directory: Path) -> str:
    return str(_read(directory / "config.json").get("model_type", ""))


def _base_name(config: Path) -> str:
    return Path(str(_read(config).get("base_model_name_or_path", ""))).name


def _read(path: Path) -> dict[str, object]:
    """Return a JSON object, an empty one for what is none: who opens the part says so."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
