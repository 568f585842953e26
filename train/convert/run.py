"""A whole conversion: records and archives file by file, then one list of what is complete.

How the sets lie on the disk was read without them at hand: in the Hub's file lists and the sets'
cards, in LooperXX/LLaVA-OV-Manager (`images.zip`, archives) and OpenRobotLab/StreamVLN (where
videos lie). The paths in a JSON record file start from its own folder.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from groundserve.errors import InvalidRequestError
from train.config import Stage
from train.convert.parts import SUFFIXES, Parts, bad, unpack
from train.convert.records import convert_json, convert_parquet
from train.files import replacing, sole_writer


@dataclass(frozen=True, kw_only=True)
class PublishedSet:
    """One set."""

    stage: Stage
    records: tuple[str, ...]
    """Glob patterns below the download: Parquet with images inside, or JSON lists."""


SETS = {
    # huggingface.co/datasets/liuhaotian/LLaVA-Pretrain
    "llava-pretrain": PublishedSet(
        stage="projector",
        records=("blip_laion_cc_sbu_558k.json",),
    ),
    # huggingface.co/datasets/lmms-lab/LLaVA-OneVision-Data
    "llava-onevision": PublishedSet(
        stage="images",
        # A few subsets (ureader_kg, ureader_qa, cambrian) are a list and archives instead.
        records=("**/*.parquet", "*/*_processed.json"),
    ),
    # huggingface.co/datasets/lmms-lab/LLaVA-Video-178K
    "llava-video": PublishedSet(
        stage="video",
        # The card's splits "multi_choice" and "open_ended"; captions are its third.
        records=("*/*mc*.json", "*/*oe*.json"),
    ),
}
"""By the name on the command line."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of a set."""

    records: Path
    media_root: Path
    num_records: int
    num_images: int
    num_videos: int
    num_bad: int
    """Left out; `bad_records.jsonl` has each."""
    bad_rules: dict[str, int]
    """How often each rule was broken, the most frequent first."""


def convert(
    name: str,
    source: Path,
    out: Path,
    *,
    include: Sequence[str] = (),
    on_file: Callable[[str], None] = lambda name: None,
) -> Report:
    """Convert a downloaded set.

    Called again after it was interrupted, it goes on with the file it had come to; with files that
    were added to the download, it adds them. `source` is as `hf download --repo-type dataset` lays
    it out; `include` are glob patterns of record files below it, where not the set's own; `on_file`
    is told the name of each file before it is read.

    Raises:
        InvalidRequestError: A name, a folder or a whole file cannot be used, or no record can.
        MissingExtraError: A file is Parquet and pyarrow is not installed.
    """
    if name not in SETS:
        raise InvalidRequestError(f"the set must be one of {', '.join(SETS)}, got {name!r}")
    chosen = SETS[name]
    # The patterns would find our own list the next time.
    if source.resolve() in (out.resolve(), *out.resolve().parents):
        raise InvalidRequestError(
            f"OUT must not be SOURCE or lie in it, where records are looked for, got {out}"
        )
    record_files = _record_files(source, chosen.records, include)
    with sole_writer(out):
        archives = _archives(source, record_files)
        parts = Parts(out / ".parts", about={"set": name, "source": str(source.resolve())})
        media_root = out / "media"
        # Archives last: what is wrong with a list shows before they are unpacked.
        for file in [*record_files, *archives]:
            path, stage = source / file, chosen.stage
            if parts.is_done(file, path):
                continue
            on_file(file)
            if path.name.endswith(SUFFIXES):
                # Its outcomes are what it left out; its files are written by the way.
                outcomes = unpack(path, media_root / PurePosixPath(file).parent, name=file)
            elif path.suffix == ".parquet":
                outcomes = convert_parquet(path, name=file, stage=stage, media_root=media_root)
            else:
                outcomes = convert_json(path, name=file, stage=stage)
            parts.write(file, path, outcomes)
        return _merge(parts, [*record_files, *archives], source=source, out=out)


def _record_files(source: Path, patterns: Iterable[str], include: Sequence[str]) -> list[str]:
    found = {path.relative_to(source).as_posix() for p in patterns for path in source.glob(p)}
    if include:
        # fnmatch's `*` also stands for slashes, so that a pattern may name a folder's beginning.
        every = (path.relative_to(source).as_posix() for path in source.rglob("*"))
        chosen = {file for file in every if any(fnmatch(file, p) for p in include)}
        found = {file for file in chosen if file.endswith((".json", ".parquet"))}
    if not found:
        remedy = "give the folder that the set was downloaded to"
        if include:
            remedy += ", and patterns of JSON or Parquet files in it"
        raise InvalidRequestError(
            f"{source} has no file that matches {' or '.join(include or patterns)}; {remedy}"
        )
    return sorted(found)


def _archives(source: Path, record_files: Iterable[str]) -> list[str]:
    # Parquet files hold their images.
    folders = {PurePosixPath(file).parent for file in record_files if file.endswith(".json")}
    return sorted(
        path.relative_to(source).as_posix()
        for folder in folders
        for path in (source / folder).iterdir()
        if path.name.endswith(SUFFIXES)
    )


def _merge(parts: Parts, files: Iterable[str], *, source: Path, out: Path) -> Report:
    """Write the list of the records whose media are there, and the list of the others."""
    media_root = out / "media"
    counts: Counter[str] = Counter()
    rules: Counter[str] = Counter()
    records_path = out / "records.json"
    with (
        replacing(out / "bad_records.jsonl") as bad_records,
        replacing(records_path) as records,
    ):
        separator = b"[\n"
        for file in files:
            for number, outcome in enumerate(parts.read(file)):
                left_out = outcome.get("bad")
                if left_out is None:
                    record = outcome["record"]
                    # A record has one of them at most, or `parse_record` would have refused it.
                    kind = next((kind for kind in ("image", "video") if kind in record), "text")
                    if kind == "text" or _is_there(record[kind], source, media_root):
                        counts[kind] += 1
                        records.write(separator + json.dumps(record).encode())
                        separator = b",\n"
                        continue
                    rule = f"{kind} must be in an archive, or unpacked, beside the file, got "
                    name = str(record.get("id", f"#{number}"))
                    left_out = bad(file, name, rule + repr(record[kind]))["bad"]
                # Without the value, which differs from record to record.
                rules[left_out["rule"].partition(", got")[0]] += 1
                bad_records.write(json.dumps(left_out).encode() + b"\n")
        # Raised before the list is complete, so none is left behind, and the bad ones' neither.
        if not counts:
            (rule, _), *_ = rules.most_common(1) or [("there is none", 0)]
            raise InvalidRequestError(f"{out}: no record can be used; most often: {rule}")
        records.write(b"\n]\n")
    return Report(
        records=records_path,
        media_root=media_root,
        num_records=counts.total(),
        num_images=counts["image"],
        num_videos=counts["video"],
        num_bad=rules.total(),
        bad_rules=dict(rules.most_common()),
    )


def _is_there(path: str, source: Path, media_root: Path) -> bool:
    """Whether a media file was written; one that was unpacked in the download is linked to."""
    written, unpacked = media_root / path, source / path
    if written.is_file():
        return True
    if not unpacked.is_file():
        return False
    written.parent.mkdir(parents=True, exist_ok=True)
    written.unlink(missing_ok=True)  # a link that leads nowhere now
    # `resolve`: a relative link would start from the media folder.
    written.symlink_to(unpacked.resolve())
    return True
