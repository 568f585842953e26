"""What is wrong with a run's records that shows without opening a file: format, paths, ordinals.

`train check` reports it, and a run looks before it loads anything: a mistake in a path or a field
costs seconds, not the time until the loop comes to it.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from groundserve.errors import InvalidRequestError
from train.config import DataConfig, StageConfig
from train.data.records import Item, MalformedRecord, group_records, read_records
from train.validation import read_validation

logger = logging.getLogger(__name__)

_NUM_EXAMPLES = 5
_STAT_THREADS = 32
"""A lookup on a network file system is mostly waiting."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and of how many."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One kind of trouble with records."""

    kind: str
    num_items: int
    num_looked_at: int
    """Out of how many: all, or the sampled ones."""
    examples: tuple[str, ...]

    @classmethod
    def of(cls, kind: str, reasons: Mapping[int, str], *, num_looked_at: int) -> Self:
        """Make one of the reasons by item."""
        # A file that several items want is named once.
        distinct = tuple(dict.fromkeys(reasons[number] for number in sorted(reasons)))
        return cls(
            kind=kind,
            num_items=len(reasons),
            num_looked_at=num_looked_at,
            examples=distinct[:_NUM_EXAMPLES],
        )


@dataclass(frozen=True, kw_only=True)
class KnownFaults:
    """What cannot be read of a run's items."""

    num_items: int
    num_media: int
    reasons: Mapping[str, Mapping[int, str]]
    """By kind, found or not, and number of the item."""

    @property
    def items(self) -> set[int]:
        """Numbers of the items that have any."""
        return {number for reasons in self.reasons.values() for number in reasons}

    def faults(self) -> list[Fault]:
        """Return every kind, those that were not found too."""
        return [
            Fault.of(kind, reasons, num_looked_at=self.num_items)
            for kind, reasons in self.reasons.items()
        ]


def find_known_faults(
    config: DataConfig,
    items: Sequence[Item | MalformedRecord],
    *,
    on_progress: Progress = lambda *_: None,
) -> KnownFaults:
    """Look at every item, and look up every file once."""
    whole = {number: item for number, item in enumerate(items) if isinstance(item, Item)}
    paths = sorted({item.media.path for item in whole.values() if item.media})
    missing = _look_up(config.media_root, paths, on_progress)
    max_frames = config.max_frames
    reasons = {
        "records that break the format": {
            number: f"{item.path or 'no media'}, record {item.name}: {item.reason}"
            for number, item in enumerate(items)
            if isinstance(item, MalformedRecord)
        },
        "files that are missing or empty": {
            number: f"{item.media.path}: {missing[item.media.path]}"
            for number, item in whole.items()
            if item.media and item.media.path in missing
        },
        f"frame_num beyond any video: {max_frames} (max_frames) or more": {
            number: f"{item.media.path}, record {record.name}: {max(record.positive_frames)}"
            for number, item in whole.items()
            for record in reversed(item.records)
            if item.media and record.positive_frames and max(record.positive_frames) >= max_frames
        },
    }
    return KnownFaults(num_items=len(items), num_media=len(paths), reasons=reasons)


def check_records(config: StageConfig) -> None:
    """Look at what a run would read, before anything is loaded.

    What is counted here is certain and of all items, so `data.max_unreadable_share` holds for it
    however few there are; what only shows when a file is opened is `train.unreadable`'s.

    Raises:
        InvalidRequestError: A data file cannot be used, too many items cannot be read, or a video
            to validate on is missing.
    """
    data = config.data
    records = read_records(data.records, stage=config.stage).records
    items = group_records(records, questions_per_video=data.questions_per_video)
    known = find_known_faults(data, items)
    num_lost = len(known.items)
    if num_lost:
        found = "; ".join(
            f"{fault.num_items} {fault.kind}, the first: {fault.examples[0]}"
            for fault in known.faults()
            if fault.num_items
        )
        said = (
            f"{num_lost} of {known.num_items} items of {data.records} cannot be read: {found} "
            f"(data.media_root is {data.media_root})"
        )
        if num_lost > data.max_unreadable_share * known.num_items:
            raise InvalidRequestError(
                f"{said}. That is more than data.max_unreadable_share = "
                f"{data.max_unreadable_share:g}; groundserve train check shows more of them"
            )
        logger.warning("%s; they are left out", said)
    for warning in check_validation(config, items):
        logger.warning("%s", warning)


def check_validation(
    config: StageConfig, items: Sequence[Item | MalformedRecord]
) -> tuple[str, ...]:
    """Look at what a run would be measured on; warns where both name the same video.

    Raises:
        InvalidRequestError: A record breaks the format, no frame answers any, or a video is
            missing.
    """
    held_out = config.validation
    if held_out is None:
        return ()
    paths = sorted({record.video for record in read_validation(held_out)})
    missing = _look_up(held_out.media_root, paths, lambda *_: None)
    if missing:
        path, reason = next(iter(missing.items()))
        raise InvalidRequestError(
            f"{len(missing)} of {len(paths)} videos of validation.records {held_out.records} "
            f"cannot be read, the first: {path}: {reason} (validation.media_root is "
            f"{held_out.media_root})"
        )
    trained_on = {
        os.path.abspath(config.data.media_root / item.media.path)
        for item in items
        if isinstance(item, Item) and item.media
    }
    shared = [path for path in paths if os.path.abspath(held_out.media_root / path) in trained_on]
    if not shared:
        return ()
    return (
        f"{len(shared)} of {len(paths)} videos of validation.records {held_out.records} are "
        f"trained on, the first: {shared[0]}; the figures will be better than on other videos",
    )


def _look_up(root: Path, paths: Sequence[str], on_progress: Progress) -> dict[str, str]:
    """Return why, for each path that is no file with content."""
    reasons: dict[str, str] = {}
    with ThreadPoolExecutor(_STAT_THREADS) as threads:
        found = threads.map(lambda path: _file_fault(root / path), paths)
        for done, (path, reason) in enumerate(zip(paths, found, strict=True), start=1):
            if reason:
                reasons[path] = reason
            on_progress("files", done, len(paths))
    return reasons


def _file_fault(path: Path) -> str | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        return os.strerror(error.errno or 0) if isinstance(error, OSError) else "bad name"
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    return None if status.st_size else "it is empty (0 bytes)"
