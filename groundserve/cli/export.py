"""`groundserve export`: scored questions as the file that a Video-LLM's harness reads."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, get_args

import typer

from groundserve.cli._options import AsJson, made_of
from groundserve.cli._output import print_json, print_line, print_note, progress
from groundserve.errors import InvalidRequestError, UnavailableError, UnsupportedError
from groundserve.exports import (
    Exported,
    ExportFormat,
    ExportOptions,
    check_options,
    export,
    read_numbers,
)
from groundserve.exports.formats import BENCHMARK_SAMPLING
from groundserve.exports.options import ImageForm, Order
from groundserve.options import Selector
from groundserve.storage import open_storage, scheme_of, split_place

_DEFAULTS = ExportOptions()
_URL = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
"""With one slash: a path has lost the other."""


def command(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="Folder of groundserve batch; or a file of records (score --jsonl), or of answers "
            "(score --json, one a line). A URL such as s3://... is copied here first (TMPDIR)."
        ),
    ],
    export_format: Annotated[
        str, typer.Option("--format", help=f"What to write: {', '.join(get_args(ExportFormat))}.")
    ],
    out: Annotated[str, typer.Option(help="File to write, or a URL.")],
    order: Annotated[
        str,
        typer.Option(
            help=f"lmms-eval: {', '.join(get_args(Order))}. score has all frames, best first, of "
            "which a reader takes its K; time has exactly those to be shown, in time order."
        ),
    ] = _DEFAULTS.order,
    top_k: Annotated[
        int | None,
        typer.Option(
            help="Frames to choose anew from the scores.",
            show_default="those selected when the question was scored",
        ),
    ] = None,
    selector: Annotated[
        str | None,
        typer.Option(
            help=f"How, with --top-k: {', '.join(get_args(Selector))}.", show_default="topk"
        ),
    ] = None,
    benchmark: Annotated[
        bool,
        typer.Option(
            "--benchmark",
            help=f"lmms-eval: refuse frames not sampled as the published numbers' are "
            f"({BENCHMARK_SAMPLING}).",
        ),
    ] = False,
    doc_id: Annotated[
        int | None,
        typer.Option(
            help="lmms-eval, qvhighlights: number of the first question in its benchmark, where "
            "the source is answers of score --json."
        ),
    ] = None,
    doc_ids: Annotated[
        Path | None,
        typer.Option(
            help="lmms-eval, qvhighlights: JSON object of ids and their numbers in the benchmark."
        ),
    ] = None,
    images: Annotated[
        str,
        typer.Option(
            help=f"openai: {', '.join(get_args(ImageForm))}. data puts the pictures into the file, "
            "in base64; file names the files of --frames."
        ),
    ] = _DEFAULTS.image_form,
    frames: Annotated[
        Path | None,
        typer.Option(
            help="openai, llava: folder of the frames as images: one of batch --frames or score "
            "--frames, or one to be made."
        ),
    ] = None,
    frames_side: Annotated[
        int, typer.Option(help="openai, llava: most pixels a side of frames that are decoded here.")
    ] = _DEFAULTS.frames_side,
    media_root: Annotated[
        Path | None,
        typer.Option(
            help="openai, llava: folder that relative names of videos start from.",
            show_default="a batch's: its manifest's; else this one",
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace --out if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Hand the frames of scored questions over to a Video-LLM.

    Questions without an answer are left out, and counted on stderr.

    Example: [bold]groundserve export scored --format lmms-eval --benchmark
    --out frames.jsonl[/bold]
    """
    options = made_of(
        ctx.params,
        ExportOptions,
        is_benchmark=benchmark,
        doc_ids=read_numbers(doc_ids) if doc_ids is not None else None,
        image_form=images,
        frames=frames,  # as paths: `params` has texts
        media_root=media_root,
    )
    check_options(export_format, options)
    if frames is not None and _URL.match(str(frames)):
        raise InvalidRequestError(f"--frames must name a folder of this machine, got {frames}")
    with (
        progress("exporting"),
        _written(out, replace=replace) as local_out,
        _copied(source) as local_source,
    ):
        exported = export(
            local_source,
            local_out,
            export_format,  # type: ignore[arg-type]  # checked
            options,
            replace=replace,
        )
    for note in _notes(exported, export_format):
        print_note(note)
    if as_json:
        print_json({"out": out, "format": export_format, **asdict(exported)})
    else:
        print_line(f"{out}: {exported.num_rows} questions")


@contextmanager
def _copied(source: str) -> Iterator[str]:
    """Yield a source as it is on this machine; of a URL a copy, as long as the block."""
    filesystem, path = split_place(source)
    if filesystem is None:
        yield path if scheme_of(source) else source
        return
    with TemporaryDirectory(prefix="groundserve-export-") as folder:
        copy = str(Path(folder, "source"))
        try:
            filesystem.get(path, copy, recursive=True)
        except FileNotFoundError:
            raise InvalidRequestError(f"cannot read {source}: there is nothing") from None
        except Exception as error:  # each store has errors of its own
            raise UnavailableError(f"cannot read {source}: {error}") from error
        try:
            yield copy
        except (InvalidRequestError, UnsupportedError) as error:
            raise type(error)(str(error).replace(copy, source)) from error


@contextmanager
def _written(out: str, *, replace: bool) -> Iterator[str]:
    """Yield where to write on this machine; to a URL it is put when the block ends."""
    filesystem, path = split_place(out)
    if filesystem is None:
        yield path if scheme_of(out) else out
        return
    place, _, name = out.rpartition("/")
    storage = open_storage(place)
    if not replace and name in storage.names():
        raise InvalidRequestError(f"{out} exists; write to another, or replace it (--replace)")
    with TemporaryDirectory(prefix="groundserve-export-") as folder:
        local = Path(folder, name)
        yield str(local)
        with storage.writing(name) as target, local.open("rb") as file:
            shutil.copyfileobj(file, target)


def _notes(exported: Exported, export_format: str) -> list[str]:
    """Return what who reads the file may trip over."""
    kinds = ", ".join(f"{kind} {count}" for kind, count in exported.failures.items())
    num_failed = sum(exported.failures.values())
    uniformly = "; readers sample uniformly there" if export_format == "lmms-eval" else ""
    notes = {
        "the batch has not come to its end, so questions may be missing": exported.is_unfinished,
        f"{num_failed} of {exported.num_rows + num_failed} questions have no answer and are left "
        f"out ({kinds}){uniformly}": num_failed,
        f"{exported.num_gaps} of the numbers below the largest have no line; readers sample "
        "uniformly there": exported.num_gaps,
        f"the frames of {exported.num_otherwise_sampled} questions were not sampled as benchmarks "
        f"are ({BENCHMARK_SAMPLING}): figures do not compare with published "
        "ones": exported.num_otherwise_sampled,
        f"let the reader take at least {exported.most_frames} frames: of fewer it takes the "
        "earliest, not the best": exported.most_frames,
        f"{exported.num_unused_ids} ids of --doc-ids have no answered "
        "question": exported.num_unused_ids,
        f"{exported.num_below_threshold} questions have no span above the threshold; the stretch "
        "of their best frames stands for it": exported.num_below_threshold,
    }
    return [note for note, applies in notes.items() if applies]
