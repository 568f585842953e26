"""Scored questions as the file that a Video-LLM's harness reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from tempfile import TemporaryFile

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.exports.lines import Exported, Lines
from groundserve.exports.options import PICTURED, ExportFormat, ExportOptions, check_options
from groundserve.exports.pictures import open_pictures
from groundserve.exports.sources import Source, open_source
from groundserve.files import require_writable, whole_file


def export(
    source: str | PathLike[str],
    out: str | PathLike[str],
    export_format: ExportFormat,
    options: ExportOptions | None = None,
    *,
    replace: bool = False,
) -> Exported:
    """Write the scored questions of a source as the file that a harness reads.

    Questions without an answer are left out and counted. Lines are in the order of their ids,
    numbers before texts, so the same questions give the same bytes.

    Args:
        source: What `open_source` takes.
        out: File to write; it appears when it is whole.
        export_format: "lmms-eval", "qvhighlights" and "openai" are JSON Lines, "llava" is one JSON
            list.
        options: Defaults where None.
        replace: Whether `out` may exist.

    Raises:
        InvalidRequestError: An option, the source, one of its rows or a video is not what it should
            be; nothing is written then.
        UnsupportedError: The source does not hold what the format needs.
        MissingExtraError: pyarrow (a batch's folder), or PyAV or Pillow (pictures) is missing.
        OSError: The disk is full, or fails.
    """
    options = options or ExportOptions()
    check_options(export_format, options)
    out = Path(out)
    if out.is_file() and not replace:
        raise _exists(out)
    require_writable(out)
    found = open_source(source)
    if out.exists() and out.samefile(found.path):
        raise InvalidRequestError(f"--out must not be the source, got {out} for both")
    _require_needs(found, export_format, options)
    with TemporaryFile(dir=out.absolute().parent) as spool:  # nothing is left of it
        lines = Lines(spool, found, export_format, options)
        if export_format in PICTURED:
            # A folder that is made appears, at the end, before the file that names what is in it.
            media_root = options.media_root or found.media_root
            with open_pictures(options, media_root=media_root) as pictures:
                lines.add_all(pictures)
                exported = lines.summary()
        else:
            lines.add_all()
            exported = lines.summary()
        write_lines(out, lines, is_list=export_format == "llava", replace=replace)
    return exported


def write_lines(path: Path, lines: Iterable[bytes], *, is_list: bool, replace: bool) -> None:
    """Write JSON Lines, or one JSON list with an element a line, as a whole or not at all."""
    try:
        with whole_file(path, is_new=not replace) as file:
            file.writelines(_as_list(lines) if is_list else (line + b"\n" for line in lines))
    except FileExistsError:
        raise _exists(path) from None


def _require_needs(source: Source, export_format: str, options: ExportOptions) -> None:
    """Refuse what records, which hold a ranking alone, cannot give."""
    if source.kind != "records":
        return
    others = "a batch's folder or answers of score --json"
    if export_format in ("qvhighlights", "openai"):
        raise UnsupportedError(
            f"{source.path} holds records, which say nothing of times; {export_format} takes "
            f"{others}"
        )
    if options.is_benchmark:
        raise UnsupportedError(
            f"{source.path} holds records, which do not say how frames were sampled, so they "
            f"cannot be checked for a benchmark; give {others}"
        )
    is_ranking = export_format == "lmms-eval" and options.order == "score"
    if not is_ranking and options.top_k is None:
        raise InvalidRequestError(
            f"{source.path} holds records, which rank all frames and select none; say how many to "
            "take (--top-k)"
        )
    if options.selector not in (None, "topk"):
        raise UnsupportedError(
            f"{source.path} holds records, whose scores are rounded; the selector "
            f"{options.selector} takes {others}"
        )


def _as_list(lines: Iterable[bytes]) -> Iterator[bytes]:
    before = b"[\n"
    for line in lines:
        yield before + line
        before = b",\n"
    yield b"\n]\n"


def _exists(path: Path) -> InvalidRequestError:
    return InvalidRequestError(f"{path} exists; write to another file, or replace it (--replace)")
