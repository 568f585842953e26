"""What an export writes, and which options go with which format.

Errors call an option what the command line calls it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from groundserve.errors import InvalidRequestError
from groundserve.exports.conversations import ImageForm
from groundserve.exports.decoded_pictures import DEFAULT_LONGEST_SIDE
from groundserve.exports.lmms_eval import Order
from groundserve.options import Selector
from groundserve.records.record import DocId

ExportFormat = Literal["lmms-eval", "qvhighlights", "openai", "llava"]

_NUMBERED: tuple[ExportFormat, ...] = ("lmms-eval", "qvhighlights")
PICTURED: tuple[ExportFormat, ...] = ("openai", "llava")
"""Formats that show frames as pictures."""
_NAMES = {"is_benchmark": "--benchmark", "image_form": "--images"}
"""Options of the command line that have another name than their field."""


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
    """lmms-eval, qvhighlights: id -> number; see `read_numbers`."""
    image_form: ImageForm = "data"
    """openai: pictures in the lines ("data"), or `file:` URLs of them ("file")."""
    frames: Path | None = None
    """openai, llava: folder of the pictures as files. One that exists has them, with an index;
    else they are decoded and it is made. None: decoded, and kept nowhere else."""
    frames_side: int = DEFAULT_LONGEST_SIDE
    """openai, llava: most pixels a side of a frame that is decoded here."""
    media_root: Path | None = None
    """openai, llava: folder that relative names of videos start from; None: see
    `Source.media_root`."""


def check_options(export_format: str, options: ExportOptions) -> None:
    """Refuse options that the format has no use for, so that nothing is ignored.

    Raises:
        InvalidRequestError: The format is unknown, or an option does not go with it.
    """
    if export_format not in get_args(ExportFormat):
        raise InvalidRequestError(
            f"--format must be one of {', '.join(get_args(ExportFormat))}, got {export_format}"
        )
    if options.order not in get_args(Order):
        raise InvalidRequestError(
            f"--order must be one of {', '.join(get_args(Order))}, got {options.order}"
        )
    if options.image_form not in get_args(ImageForm):
        raise InvalidRequestError(
            f"--images must be one of {', '.join(get_args(ImageForm))}, got {options.image_form}"
        )
    defaults = ExportOptions()
    uses: dict[str, tuple[str, ...]] = {
        "order": ("lmms-eval",),
        "is_benchmark": ("lmms-eval",),
        "doc_id": _NUMBERED,
        "doc_ids": _NUMBERED,
        "image_form": ("openai",),
        "frames": PICTURED,
        "frames_side": PICTURED,
        "media_root": PICTURED,
        "top_k": ("lmms-eval", *PICTURED),
        "selector": ("lmms-eval", *PICTURED),
    }
    for name, formats in uses.items():
        is_given = getattr(options, name) != getattr(defaults, name)
        if is_given and export_format not in formats:
            option = _NAMES.get(name, f"--{name.replace('_', '-')}")
            raise InvalidRequestError(f"{option} is for {', '.join(formats)}, not {export_format}")
    if options.top_k is not None and options.top_k < 1:
        raise InvalidRequestError(f"--top-k must be >= 1, got {options.top_k}")
    if options.selector is not None and options.selector not in get_args(Selector):
        raise InvalidRequestError(
            f"--selector must be one of {', '.join(get_args(Selector))}, got {options.selector}"
        )
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
