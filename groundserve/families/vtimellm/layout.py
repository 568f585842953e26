"""Where the parts of a checkpoint lie, in the folders that the reference's instructions name."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from groundserve.errors import InvalidRequestError, UnsupportedError

PROJECTOR_NAME = "mm_projector.bin"
"""The projector, in the folder of the first stage."""

PREPROCESSING_NAME = "preprocessing.json"
"""Of a copy that resizes otherwise than the reference's authors did: `{"antialias": true}`."""

_ADAPTER_CONFIG = "adapter_config.json"
_STAGE = re.compile(r"vtimellm-(?P<variant>.+)-stage(?P<stage>[1-9]\d*)")
_NOT_SERVED = "chatglm"
_SWITCH = {"on": True, "off": False}
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
    """File."""
    adapters: tuple[Path, ...]
    """Directories, in the order in which they are merged."""
    antialias: bool
    """How frames are resized; see `VTimeLLMSpec.antialias`."""
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
            are and then below `directory`; of `antialias` "on" or "off".

    Raises:
        InvalidRequestError: A part is missing, or there are several of which one is to be named.
        UnsupportedError: It is the model with ChatGLM3.
    """
    if not os.path.isdir(directory):  # Path's own raises where a name is too long
        raise InvalidRequestError(f"checkpoint {directory}: no such directory")
    if not any(_stages(directory)) and any(_stages(directory / "checkpoints")):
        directory = directory / "checkpoints"
    search = _Search(directory, given)
    clip = search.part("clip", search.find_clip)
    projector = search.part("projector", search.find_projector)
    adapters = search.part("adapter", search.find_adapters)
    base = search.part("base", search.find_base)
    antialias = search.antialias()
    search.refuse_missing()
    return Parts(
        clip=clip[0],
        base=base[0],
        projector=_inside(projector[0], PROJECTOR_NAME),
        adapters=adapters,
        antialias=antialias,
        left_aside=tuple(search.left_aside),
    )


class _Search:
    """One look through a directory; what is missing is told together."""

    def __init__(self, directory: Path, given: Mapping[str, Sequence[str | Path]]) -> None:
        unknown = sorted(given.keys() - {*_LOOKS, "antialias"})
        if unknown:
            raise InvalidRequestError(
                f"vtimellm has no part {unknown[0]!r}; its parts are {', '.join(_LOOKS)} and "
                "antialias"
            )
        self._directory = directory
        self._given = given
        self._found: dict[str, tuple[Path, ...]] = {}
        self.left_aside: list[str] = []

    def part(self, name: str, find: Callable[[], tuple[Path, ...]]) -> tuple[Path, ...]:
        """Return a part as given, else as found; () where it is missing."""
        if name in self._given:
            values = self._given[name]
            if not values or (len(values) > 1 and name != "adapter"):
                raise InvalidRequestError(
                    f"{self._where}: the part {name} must be named once, got {len(values)} names"
                )
            paths = tuple(self._existing(name, value) for value in values)
        else:
            paths = find()
        if paths:
            self._found[name] = paths
        return paths

    def antialias(self) -> bool:
        """Return the switch as given, else as a copy says it, else off."""
        if "antialias" in self._given:
            values = [str(value) for value in self._given["antialias"]]
            if len(values) != 1 or values[0] not in _SWITCH:
                raise InvalidRequestError(
                    f"{self._where}: the part antialias must be on or off, got {', '.join(values)}"
                )
            return _SWITCH[values[0]]
        path = self._directory / PREPROCESSING_NAME
        return path.is_file() and _read(path).get("antialias") is True

    def refuse_missing(self) -> None:
        """Say all that is missing at once, and what was found.

        Raises:
            InvalidRequestError: Something is.
        """
        missing = [name for name in _LOOKS if name not in self._found]
        if missing:
            lacks = "; ".join(f"{name} ({_LOOKS[name]})" for name in missing)
            has = ", ".join(
                f"{name} {' '.join(path.name for path in paths)}"
                for name, paths in self._found.items()
            )
            raise InvalidRequestError(
                f"{self._where}: parts of VTimeLLM are missing: {lacks}; found: {has or 'none'}; "
                f"name what lies elsewhere, as with --part {missing[0]}=PATH"
            )

    def find_clip(self) -> tuple[Path, ...]:
        """Find OpenAI's file; of several the archive as published; else a directory."""
        from groundserve.torch_archive import is_script_archive  # needs PyTorch

        files = sorted((self._directory / "clip").glob("*.pt"))
        folders = [path for path in self._folders if _model_type(path).startswith("clip")]
        chosen = files if len(files) == 1 else [one for one in files if is_script_archive(one)]
        if not files:
            chosen = folders
        if len(chosen) != 1 and (files or folders):
            raise self._several("clip", chosen or files)
        self._leave_aside(path for path in [*files, *folders] if path not in chosen)
        return tuple(chosen)

    def find_projector(self) -> tuple[Path, ...]:
        """Find the first stage's."""
        path = self._stages_of_variant().get(1)
        return (path,) if path and (path / PROJECTOR_NAME).is_file() else ()

    def find_adapters(self) -> tuple[Path, ...]:
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
                f"{self._where}: {found[max(found)].name} was trained upon stage {gap[0]}, which "
                "is missing; an adapter goes with all before it"
            )
        used = set(found.values())
        self._leave_aside(
            path
            for path in self._folders
            if (path / _ADAPTER_CONFIG).is_file() and path not in used
        )
        return tuple(found.values())

    def find_base(self) -> tuple[Path, ...]:
        """Find the one decoder; of several that which the adapters say they were trained on."""
        found = [path for path in self._folders if _may_be_base(path)]
        if len(found) <= 1:
            return tuple(found)
        adapters = self._found.get("adapter", ())
        trained_on = {_base_name(path / _ADAPTER_CONFIG) for path in adapters}
        named = [path for path in found if path.name in trained_on]
        if len(named) != 1:
            raise self._several("base", found)
        self._leave_aside(path for path in found if path not in named)
        return tuple(named)

    @property
    def _where(self) -> str:
        return f"checkpoint {self._directory.name}"

    @property
    def _folders(self) -> list[Path]:
        return sorted(path for path in self._directory.iterdir() if path.is_dir())

    def _stages_of_variant(self) -> dict[int, Path]:
        variants: dict[str, dict[int, Path]] = {}
        for variant, stage, path in _stages(self._directory):
            variants.setdefault(variant, {})[stage] = path
        served = {name: one for name, one in variants.items() if _NOT_SERVED not in name.lower()}
        if variants and not served:
            raise UnsupportedError(
                f"{self._where}: VTimeLLM with ChatGLM3 is not served; the one with Vicuna is"
            )
        if len(served) > 1:
            raise InvalidRequestError(
                f"{self._where}: there are several models ({', '.join(sorted(served))}); name the "
                "parts of one with --part projector=PATH --part adapter=PATH --part base=PATH"
            )
        return next(iter(served.values()), {})

    def _existing(self, name: str, value: str | Path) -> Path:
        path = Path(os.path.expanduser(value))
        for place in (path, self._directory / path):
            if os.path.exists(place):
                return place.resolve()
        raise InvalidRequestError(
            f"{self._where}: the part {name} is {_LOOKS[name]}; there is nothing at {value}"
        )

    def _leave_aside(self, paths: Iterator[Path]) -> None:
        self.left_aside += [str(path.relative_to(self._directory)) for path in paths]

    def _several(self, name: str, paths: Sequence[Path]) -> InvalidRequestError:
        shown = ", ".join(str(path.relative_to(self._directory)) for path in paths)
        return InvalidRequestError(
            f"{self._where}: the part {name} may be {shown}; choose with --part {name}=PATH"
        )


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
