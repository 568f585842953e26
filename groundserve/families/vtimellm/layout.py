"""Where the parts of a checkpoint lie, in the folders that the reference's instructions name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.parts import GivenParts, LlamaParts, PartSearch

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
_SWITCHES = {"antialias": ("on", "off")}
_NUMBERS = ("clip_heads",)

PART_NAMES = (*_LOOKS, *_SWITCHES, *_NUMBERS)


@dataclass(frozen=True, kw_only=True)
class Parts(LlamaParts):
    """Where each part lies."""

    clip: Path
    """OpenAI's file, or a directory of transformers."""
    projector: Path
    adapters: tuple[Path, ...]
    """Directories, in the order in which they are merged."""
    antialias: bool
    clip_heads: int | None


def is_layout(directory: Path) -> bool:
    """Tell whether a directory, or its folder `checkpoints`, has folders of the stages."""
    return any(_stages(directory)) or any(_stages(directory / "checkpoints"))


def find_parts(directory: Path, given: GivenParts) -> Parts:
    """Find the parts that are not given, in a directory that `is_layout` where any are not."""
    if not any(_stages(directory)) and any(_stages(directory / "checkpoints")):
        directory = directory / "checkpoints"
    search = PartSearch(
        directory,
        given,
        family="vtimellm",
        looks=_LOOKS,
        repeated=("adapter",),
        switches=_SWITCHES,
        numbers=_NUMBERS,
    )
    search.part("clip", lambda: _find_clip(search))
    search.part("projector", lambda: _find_projector(search))
    adapters = search.part("adapter", lambda: _find_adapters(search))
    search.part("base", lambda: _find_base(search, adapters))
    antialias = search.switch("antialias", "off") == "on"
    fields = search.fields()
    del fields["adapter"]  # the first of them
    if fields["projector"].is_dir():
        fields["projector"] /= PROJECTOR_NAME
    return Parts(**fields, adapters=adapters, antialias=antialias)


@dataclass(frozen=True, kw_only=True)
class PartsBefore(LlamaParts):
    """What a stage of training starts from."""

    variant: str
    """What the folders of the stages are called after."""
    clip: Path | None
    """None: there are features alone."""
    projector: Path | None
    """Of the first stage, for all that follow it."""
    adapters: tuple[Path, ...]
    """Of the stages between."""


def find_parts_before(directory: Path, stage: int) -> PartsBefore:
    """Find what a stage starts from: all that the stages before it wrote."""
    needed = ["base"] + ["projector"] * (stage > 1) + ["adapter"] * (stage > 2)
    search = PartSearch(
        directory, {}, family="vtimellm", looks={name: _LOOKS[name] for name in needed}
    )
    clip = next(iter(_find_clip(search)), None)
    stages = {number: path for number, path in _stages_of_variant(search).items() if number < stage}
    projector = search.part("projector", lambda: _find_projector(search)) if stage > 1 else ()
    adapters = tuple(path for number, path in sorted(stages.items()) if number > 1)
    if len(adapters) == stage - 2 > 0:
        search.part("adapter", lambda: adapters)
    search.part("base", lambda: _find_base(search, adapters))
    fields = search.fields()
    names = {found["variant"] for one in stages.values() if (found := _STAGE.fullmatch(one.name))}
    return PartsBefore(
        variant=next(iter(names), fields["base"].name),
        base=fields["base"],
        clip=clip,
        projector=projector[0] / PROJECTOR_NAME if projector else None,
        adapters=adapters,
        choices=fields["choices"],
        left_aside=fields["left_aside"],
    )


def _find_clip(search: PartSearch) -> Sequence[Path]:
    """Find OpenAI's file; of several the archive as published; else a directory."""
    from groundserve.weights.torch_archive import is_script_archive  # needs PyTorch

    files = sorted((search.directory / "clip").glob("*.pt"))
    folders = [path for path in search.folders if _model_type(path).startswith("clip")]
    chosen = files if len(files) == 1 else [one for one in files if is_script_archive(one)]
    if not files:
        chosen = folders
    if len(chosen) != 1 and (files or folders):
        raise search.several("clip", chosen or files)
    search.leave_aside(path for path in [*files, *folders] if path not in chosen)
    return chosen


def _find_projector(search: PartSearch) -> Sequence[Path]:
    path = _stages_of_variant(search).get(1)
    return (path,) if path and (path / PROJECTOR_NAME).is_file() else ()


def _find_adapters(search: PartSearch) -> Sequence[Path]:
    """Find those of the stages from the second on."""
    found = {
        stage: path
        for stage, path in sorted(_stages_of_variant(search).items())
        if stage > 1 and (path / _ADAPTER_CONFIG).is_file()
    }
    gap = [stage for stage in range(2, max(found, default=1)) if stage not in found]
    if gap:
        raise InvalidRequestError(
            f"{search.where}: {found[max(found)].name} was trained upon stage {gap[0]}, "
            "which is missing; an adapter goes with all before it"
        )
    others = (path for path in search.folders if (path / _ADAPTER_CONFIG).is_file())
    search.leave_aside(path for path in others if path not in found.values())
    return tuple(found.values())


def _find_base(search: PartSearch, adapters: Sequence[Path]) -> Sequence[Path]:
    """Find the one decoder; of several that which the adapters say they were trained on."""
    found = [path for path in search.folders if _may_be_base(path)]
    if len(found) <= 1:
        return found
    configs = [_read(path / _ADAPTER_CONFIG) for path in adapters]
    trained_on = {Path(str(one.get("base_model_name_or_path", ""))).name for one in configs}
    named = [path for path in found if path.name in trained_on]
    if len(named) != 1:
        raise search.several("base", found)
    search.leave_aside(path for path in found if path not in named)
    return named


def _stages_of_variant(search: PartSearch) -> dict[int, Path]:
    variants: dict[str, dict[int, Path]] = {}
    for variant, stage, path in _stages(search.directory):
        variants.setdefault(variant, {})[stage] = path
    served = {name: one for name, one in variants.items() if _NOT_SERVED not in name.lower()}
    if variants and not served:
        raise UnsupportedError(
            f"{search.where}: VTimeLLM with ChatGLM3 is not served; the one with Vicuna is"
        )
    if len(served) > 1:
        raise InvalidRequestError(
            f"{search.where}: there are several models ({', '.join(sorted(served))}); name the "
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


def _may_be_base(directory: Path) -> bool:
    """Tell whether a folder has weights that are no adapter's, and neither CLIP's nor ChatGLM's."""
    has_weights = any(directory.glob("*.safetensors")) or any(directory.glob("pytorch_model*.bin*"))
    is_other = _model_type(directory).startswith(("clip", _NOT_SERVED))
    return has_weights and not is_other and not (directory / _ADAPTER_CONFIG).is_file()


def _model_type(directory: Path) -> str:
    return str(_read(directory / "config.json").get("model_type", ""))


def _read(path: Path) -> dict[str, object]:
    """Return a JSON object, an empty one for what is none: who opens the part says so."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
