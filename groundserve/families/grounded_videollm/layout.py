"""Where the parts of a checkpoint lie, in the weight folder that the reference's code names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from groundserve.errors import InvalidRequestError
from groundserve.families.grounded_videollm.plan import Llm
from groundserve.families.parts import FoundParts, GivenParts, PartSearch

Angles = Literal["float32", "bfloat16"]
"""In which arithmetic a decoder's positions are rotated."""

TUNED_FOLDER = "ckpt"
INTERNVIDEO_FOLDER = "internvideo"
CLIP_NAME = "vision_model.pth"
DECODER_FOLDER = "language_model_seperated"
"""In the base: config.json of the decoder. The spelling is the reference's, here and below."""


_SEPARATED = "-seperated"
_BASES: Mapping[Llm, str] = {
    "phi3.5": f"Phi-3.5-vision-instruct{_SEPARATED}",
    "llama3": f"llama3-llava-next-8b{_SEPARATED}",
}
"""Folder of what each model was cut into; that of its config is without the ending."""
_TOKENIZERS: Mapping[Llm, str] = {
    "phi3.5": "Phi-3.5-mini-instruct",
    "llama3": "Meta-Llama-3-8B-Instruct",
}
_NEWLINES: Mapping[Llm, str] = {"phi3.5": "image_newlines.pth", "llama3": "image_newline.pth"}
"""File in the base, with the vectors between rows and segments."""
_WEIGHT_FOLDER = "weight_path"
_PUBLISHED_TUNED = (
    "sft_llava_next_video_{}_mix_sft_multi_modal_projector_video_projecter_language_model.pth"
)
_PUBLISHED_INTERNVIDEO = "vision-encoder-InternVideo2-stage2_1b-224p-f4.pt"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
# Part -> what it looks like, for who has to name it.
_LOOKS = {
    "checkpoint": f"the file sft_*.pth of the last stage, in the folder {TUNED_FOLDER}",
    "internvideo": f"InternVideo2's .pt file, in the folder {INTERNVIDEO_FOLDER}",
    "clip": f"{CLIP_NAME}, in the base",
    "base": f"the folder {' or '.join(_BASES.values())}",
    "tokenizer": f"the folder {' or '.join(_TOKENIZERS.values())}",
}
_SWITCHES = {"llm": tuple(_BASES), "angles": ("float32", "bfloat16")}
_NUMBERS = ("clip_heads", "internvideo_heads")

PART_NAMES = ("llm", *_LOOKS, "angles", *_NUMBERS)


@dataclass(frozen=True, kw_only=True)
class SharedParts(FoundParts):
    """Where those parts lie that training leaves as they are."""

    llm: Llm
    internvideo: Path
    clip: Path
    """File of the tower of the model that the decoder is of."""
    base: Path
    """Directory with the vectors between rows and segments, and the decoder's config."""
    tokenizer: Path
    clip_heads: int | None
    internvideo_heads: int | None

    @property
    def newlines(self) -> Path:
        """File of the vectors between rows and segments."""
        return self.base / _NEWLINES[self.llm]

    @property
    def decoder_config(self) -> Path:
        """config.json of the decoder before its tables grew."""
        return self.base / DECODER_FOLDER / "config.json"

    @property
    def model_config(self) -> Path:
        """config.json beside the base, of the model that it was cut from; not always there."""
        return self.base.parent / self.base.name.removesuffix(_SEPARATED) / "config.json"


@dataclass(frozen=True, kw_only=True)
class Parts(SharedParts):
    """Where each part lies."""

    checkpoint: Path
    """File of the last training stage: projectors and the whole decoder with its adapter."""
    angles: Angles


def is_layout(directory: Path) -> bool:
    """Tell whether a directory, or its folder `weight_path`, has a decoder's folders."""
    return bool(_llms(directory) or _llms(directory / _WEIGHT_FOLDER))


def find_parts(directory: Path, given: GivenParts) -> Parts:
    """Find the parts that are not given, in a directory that `is_layout` where any are not."""
    if not _llms(directory) and _llms(directory / _WEIGHT_FOLDER):
        directory = directory / _WEIGHT_FOLDER
    search = PartSearch(
        directory,
        given,
        family="grounded_videollm",
        looks=_LOOKS,
        switches=_SWITCHES,
        numbers=_NUMBERS,
    )
    llm = _llm(search)

    def one(name: str, pattern: str) -> tuple[Path, ...]:
        return search.part(name, lambda: search.at_most_one(name, sorted(directory.glob(pattern))))

    base = search.part("base", lambda: _existing(directory / _BASES[llm]))
    # The reference names the file of the last stage after its decoder.
    checkpoint = one("checkpoint", f"{TUNED_FOLDER}/sft_*_{llm}_*.pth")
    one("internvideo", f"{INTERNVIDEO_FOLDER}/*.pt")
    search.part("clip", lambda: _existing(*(one / CLIP_NAME for one in base)))
    search.part("tokenizer", lambda: _existing(directory / _TOKENIZERS[llm]))
    angles = cast(Angles, search.switch("angles", "float32"))
    _leave_aside(search, used={*base, *checkpoint})
    return Parts(llm=llm, angles=angles, **search.fields())


@dataclass(frozen=True, kw_only=True)
class PartsBefore(SharedParts):
    """What a stage of training starts from."""

    before: Path | None
    """File of the stage before; None for the first."""


def find_parts_before(directory: Path, given: GivenParts, stage_before: str | None) -> PartsBefore:
    """Find what a stage starts from, and the file of the stage before, if there is one."""
    if not _llms(directory) and _llms(directory / _WEIGHT_FOLDER):
        directory = directory / _WEIGHT_FOLDER
    looks = {name: look for name, look in _LOOKS.items() if name != "checkpoint"}
    if stage_before is not None:
        looks["before"] = f"the file {stage_before}_*.pth, in the folder {TUNED_FOLDER}"
    search = PartSearch(
        directory,
        given,
        family="grounded_videollm",
        looks=looks,
        switches={"llm": _SWITCHES["llm"]},
        numbers=_NUMBERS,
    )
    llm = _llm(search)

    def one(name: str, pattern: str) -> tuple[Path, ...]:
        return search.part(name, lambda: search.at_most_one(name, sorted(directory.glob(pattern))))

    base = search.part("base", lambda: _existing(directory / _BASES[llm]))
    before = one("before", f"{TUNED_FOLDER}/{stage_before}_*_{llm}_*.pth") if stage_before else ()
    one("internvideo", f"{INTERNVIDEO_FOLDER}/*.pt")
    search.part("clip", lambda: _existing(*(one / CLIP_NAME for one in base)))
    search.part("tokenizer", lambda: _existing(directory / _TOKENIZERS[llm]))
    return PartsBefore(llm=llm, **{"before": next(iter(before), None), **search.fields()})


def copy_places(parts: Parts) -> dict[str, Path]:
    """Return place below a copy -> file; the order does not depend on where the files lie."""
    tuned = f"{TUNED_FOLDER}/{_PUBLISHED_TUNED.format(parts.llm)}"
    return {tuned: parts.checkpoint, **shared_places(parts)}


def shared_places(parts: SharedParts) -> dict[str, Path]:
    """Return the same of what no stage of training changes."""
    base, tokenizer = _BASES[parts.llm], _TOKENIZERS[parts.llm]
    places = {
        f"{INTERNVIDEO_FOLDER}/{_PUBLISHED_INTERNVIDEO}": parts.internvideo,
        f"{base}/{CLIP_NAME}": parts.clip,
        f"{base}/{parts.newlines.name}": parts.newlines,
        f"{base}/{DECODER_FOLDER}/config.json": parts.decoder_config,
    }
    if parts.model_config.is_file():
        places[f"{base.removesuffix(_SEPARATED)}/config.json"] = parts.model_config
    for name in _TOKENIZER_FILES:
        places[f"{tokenizer}/{name}"] = parts.tokenizer / name
    return places


def _llms(directory: Path) -> list[Llm]:
    return [llm for llm, base in _BASES.items() if os.path.isdir(directory / base)]


def _llm(search: PartSearch) -> Llm:
    if llm := search.switch("llm", ""):
        return cast(Llm, llm)
    found = _llms(search.directory)
    if len(found) != 1:
        raise InvalidRequestError(
            f"{search.where}: it has folders of {' and '.join(found) or 'no decoder'}; choose with "
            f"--part llm={' or --part llm='.join(_BASES)}"
        )
    return found[0]


def _leave_aside(search: PartSearch, *, used: set[Path]) -> None:
    """Note the other decoder's base, and files of other stages and decoders."""
    bases = [search.directory / base for base in _BASES.values()]
    files = sorted((search.directory / TUNED_FOLDER).glob("*.pth"))
    search.leave_aside(path for path in [*_existing(*bases), *files] if path not in used)


def _existing(*paths: Path) -> list[Path]:
    return [path for path in paths if path.exists()]
