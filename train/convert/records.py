"""The records of one source file, checked by the rules that training has for them."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import ijson
from PIL import Image

from groundserve import extras
from groundserve.data_record import parse_record
from groundserve.errors import InvalidRequestError
from train.config import Stage
from train.convert.parts import Outcome, bad, copy_to
from train.data.reader import IMAGE_FORMATS
from train.data.records import check_placeholders

ROWS_AT_ONCE = 32
PARQUET_COLUMNS = ("id", "image", "conversations")


def convert_json(path: Path, *, name: str, stage: Stage) -> Iterator[Outcome]:
    """Yield the outcomes of a JSON list in LLaVA's format.

    Media paths, which start from the file's folder, then start from the download, as `name` does.
    """
    folder = PurePosixPath(name).parent
    # Read and judged one by one: a list may be larger than memory.
    for place, value in enumerate(iterate_json_list(path)):
        fields = value
        if isinstance(value, dict):
            # What these sets have of the keys that training reads.
            fields = {key: value.get(key) for key in ("id", "image", "video", "conversations")}
            for kind in ("image", "video"):
                if isinstance(fields[kind], str):
                    fields[kind] = str(folder / fields[kind])
        yield _checked(fields, place=place, name=name, stage=stage)


def convert_parquet(path: Path, *, name: str, stage: Stage, media_root: Path) -> Iterator[Outcome]:
    """Yield the outcomes of a Parquet file with images inside, and write these.

    Image k goes, byte for byte, to `<file's path without suffix>/<k>.<format>`: ids are neither
    unique nor fit for file names everywhere.
    """
    # A folder a file, since places count anew in each.
    folder = PurePosixPath(name).with_suffix("")
    for place, fields in enumerate(_parquet_rows(path)):
        try:
            fields["image"] = _write_image(fields["image"], media_root, folder / f"{place:06d}")
        except InvalidRequestError as error:
            yield bad(name, _name_of(fields, place), str(error))
            continue
        yield _checked(fields, place=place, name=name, stage=stage)


def iterate_json_list(path: Path) -> Iterator[Any]:
    """Yield the values of a file that holds one JSON list: some are larger than memory."""
    try:
        with path.open("rb") as file:
            # Some lists begin with a byte order mark, which JSON has not.
            begin = len(codecs.BOM_UTF8) if file.read(3) == codecs.BOM_UTF8 else 0
            file.seek(begin)
            kind = next((event for event, _ in ijson.basic_parse(file)), None)
            if kind != "start_array":
                raise InvalidRequestError(f"{path} must be a JSON list, it begins with {kind}")
            file.seek(begin)
            yield from ijson.items(file, "item")
    except OSError as error:
        raise InvalidRequestError(f"cannot read {path}: {error.strerror}") from error
    except ijson.JSONError as error:
        reason = " ".join(str(error).split())
        raise InvalidRequestError(f"{path} must be a JSON list in UTF-8: {reason}") from error


def _checked(fields: Any, *, place: int, name: str, stage: Stage) -> Outcome:
    record_name = _name_of(fields, place)
    try:
        # The rules of training and no others, so that nothing is left out that a run would take.
        record = parse_record(fields, name=record_name, is_grounding=stage == "grounding")
        check_placeholders(record.messages, has_media=record.media is not None)
    except InvalidRequestError as error:
        return bad(name, record_name, str(error))
    # Without nulls: an absent key and null mean the same to `parse_record`.
    return {"record": {key: value for key, value in fields.items() if value is not None}}


def _name_of(fields: Any, place: int) -> str:
    identity = fields.get("id") if isinstance(fields, dict) else None
    return f"#{place}" if identity is None else str(identity)


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    pyarrow = extras.load("pyarrow", "train")  # here, since JSON lists need none
    parquet = extras.load("pyarrow.parquet", "train")
    try:
        with parquet.ParquetFile(path) as file:
            missing = set(PARQUET_COLUMNS) - set(file.schema_arrow.names)
            if missing:
                raise InvalidRequestError(
                    f"{path} must have the columns {', '.join(PARQUET_COLUMNS)}, "
                    f"got {', '.join(file.schema_arrow.names)}"
                )
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=list(PARQUET_COLUMNS)):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise InvalidRequestError(
            f"cannot read {path} as Parquet: {error}; download it again"
        ) from error


def _write_image(image: Any, media_root: Path, stem: PurePosixPath) -> str | None:
    """Write {"bytes": ..., "path": ...} under the name of its format; None: there is no image."""
    if image is None:
        return None
    content = image.get("bytes") if isinstance(image, dict) else None
    if not isinstance(content, bytes) or not content:
        raise InvalidRequestError("image must have its bytes inside the file, it has none")
    try:
        # Only the header is read: which format it is, and that training will open it.
        with Image.open(io.BytesIO(content), formats=IMAGE_FORMATS) as opened:
            suffix = str(opened.format).lower()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise InvalidRequestError(
            f"image must be one of {', '.join(IMAGE_FORMATS)} and not too large, "
            f"got {len(content)} bytes that begin with {content[:8]!r}"
        ) from None
    path = stem.with_suffix(f".{suffix}")
    copy_to(media_root / path, io.BytesIO(content), num_bytes=len(content))
    return str(path)
