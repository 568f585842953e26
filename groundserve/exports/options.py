"""What an export writes, and which options go with which format.

Errors call an option what the command line calls it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Literal, get_args

from groundserve.errors import InvalidRequestError
from groundserve.files import read_input
from groundserve.options import Selector
from groundserve.records.reading import as_read
from groundserve.records.record import DocId
from groundserve.strict_json import parse_object, shown

ExportFormat = Literal["lmms-eval", "qvhighlights", "openai", "llava"]
Order = Literal["score", "time"]
ImageForm = Literal["data", "file"]

DEFAULT_LONGEST_SIDE = 768
PICTURED: tuple[ExportFormat, ...] = ("openai", "llava")
"""Formats that show frames as pictures."""
_NAMES = {"is_benchmark": "--benchmark", "image_form": "--images"}
"""Options of the command line that have another name than their field."""
_CHOICES = {"order": Order, "image_form": ImageForm, "selector": Selector}


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What to write; each option is of use to some formats and refused by the others."""

    order: Order = "score"
    """lmms-eval: all T frames, best first ("score"), or exactly those to be shown, in time order
    ("time")."""
    top_k: int | None = None
    """K >= 1 frames, chosen anew from the scores; None: those selected when they were scored."""
    selector: Selector | None = None
    """How to choose anew; "topk" where None. Goes with `top_k`."""
    is_benchmark: bool = False
    """lmms-eval: refuse frames sampled otherwise than the published numbers' are."""
    doc_id: int | None = None
    """lmms-eval, qvhighlights: number of the first question, where the source has no ids."""
    doc_ids: Mapping[DocId, int] | None = None
    """lmms-eval, qvhighlights: id -> number, as `read_numbers` gives them."""
    image_form: ImageForm = "data"
    """openai: pictures in the lines ("data"), or `file:` URLs of them ("file")."""
    frames: Path | None = None
    """openai, llava: folder of the pictures as files. One that exists has them, with an index;
    else they are decoded and it is made. None: decoded, and kept nowhere else."""
    frames_side: int = DEFAULT_LONGEST_SIDE
    """openai, llava: most pixels a side of a frame that is decoded here."""
    media_root: Path | None = None
    """openai, llava: folder that relative names of videos start from; None: a batch's manifest's,
    else this process's."""


_USES: dict[str, tuple[ExportFormat, ...]] = {
    "order": ("lmms-eval",),
    "is_benchmark": ("lmms-eval",),
    "doc_id": ("lmms-eval", "qvhighlights"),
    "doc_ids": ("lmms-eval", "qvhighlights"),
    "image_form": ("openai",),
    "frames": PICTURED,
    "frames_side": PICTURED,
    "media_root": PICTURED,
    "top_k": ("lmms-eval", *PICTURED),
    "selector": ("lmms-eval", *PICTURED),
}


def check_options(export_format: str, options: ExportOptions) -> None:
    """Refuse options that the format has no use for, so that nothing is ignored."""
    _require_one_of("--format", export_format, get_args(ExportFormat))
    for field in fields(options):
        value = getattr(options, field.name)
        if value == field.default:
            continue
        option = _NAMES.get(field.name, f"--{field.name.replace('_', '-')}")
        if field.name in _CHOICES:
            _require_one_of(option, value, get_args(_CHOICES[field.name]))
        if export_format not in _USES[field.name]:
            formats = ", ".join(_USES[field.name])
            raise InvalidRequestError(f"{option} is for {formats}, not {export_format}")
        if field.name in ("top_k", "frames_side") and value < 1:
            raise InvalidRequestError(f"{option} must be >= 1, got {value}")
    if options.doc_id is not None and options.doc_id < 0:
        raise InvalidRequestError(f"--doc-id must be >= 0, got {options.doc_id}")
    if options.doc_id is not None and options.doc_ids is not None:
        raise InvalidRequestError("--doc-id and --doc-ids cannot be given together")
    if options.selector is not None and options.top_k is None:
        raise InvalidRequestError("--selector goes with --top-k")
    if export_format == "lmms-eval" and options.order == "score" and options.top_k is not None:
        raise InvalidRequestError(
            "--top-k goes with --order time: of a ranking each reader takes its own K"
        )
    needs_files = export_format == "llava" or options.image_form == "file"
    if needs_files and options.frames is None:
        raise InvalidRequestError(
            "pictures as files need a folder: give --frames, one that batch or score has written "
            "or one to be made"
        )


def read_numbers(path: str | PathLike[str]) -> dict[DocId, int]:
    """Read a JSON object of ids and the numbers of their questions, each number once."""
    taken: dict[int, str] = {}
    for key, value in parse_object(read_input(path), str(path)).items():
        if type(value) is not int or value < 0:
            raise InvalidRequestError(
                f"{path}: the number of {shown(key)} must be a whole number >= 0, "
                f"got {shown(value)}"
            )
        if value in taken:
            raise InvalidRequestError(
                f"{path}: {shown(taken[value])} and {shown(key)} have the same number {value}"
            )
        taken[value] = key
    return {as_read(key): value for value, key in taken.items()}


def _require_one_of(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidRequestError(f"{option} must be one of {', '.join(choices)}, got {value}")
