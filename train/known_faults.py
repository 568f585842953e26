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
from pathlib import Path

from groundserve.errors import InvalidRequestError
from train.config import DataConfig, StageConfig
from train.data.records import Item, MalformedRecord, group_records, read_records
from train.validation import read_validation

logger = logging.getLogger(__name__)

_STAT_THREADS = 32
"""A lookup on a network file system is mostly waiting."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and of how many."""


Faults = Mapping[str, Mapping[int, str]]
"""What is wrong, by kind (those that were not found too) and number of the item."""


def media_paths(items: Sequence[Item | MalformedRecord]) -> list[str]:
    """Return the files that items name, each once."""
    return sorted({item.media.path for item in items if isinstance(item, Item) and item.media})


def find_known_faults(
    config: DataConfig,
    items: Sequence[Item | MalformedRecord],
    *,
    on_progress: Progress = lambda *_: None,
) -> Faults:
    """Look at every item, and look up every file once."""
    whole = {number: item for number, item in enumerate(items) if isinstance(item, Item)}
    missing = _look_up(config.media_root, media_paths(items), on_progress)
    max_frames = config.max_frames
    return {
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
    num_lost = len(set().union(*known.values()))
    if num_lost:
        found = "; ".join(
            f"{len(reasons)} {kind}, the first: {reasons[min(reasons)]}"
            for kind, reasons in known.items()
            if reasons
        )
        said = (
            f"{num_lost} of {len(items)} items of {data.records} cannot be read: {found} "
            f"(data.media_root is {data.media_root})"
        )
        if num_lost > data.max_unreadable_share * len(items):
            raise InvalidRequestError(
                f"{said}. That is more than data.max_unreadable_share = "
                f"{data.max_unreadable_share:g}; groundserve train check shows more of them"
            )
        logger.warning("%s; they are left out", said)
    for warning in check_validation(config, items):
        logger.warning("%s", warning)


def count_auxiliary(config: StageConfig) -> int:
    """Return how many targets the auxiliary loss has; 0 where the config does without it."""
    if config.auxiliary_weight == 0:
        return 0
    records = read_records(config.data.records, stage=config.stage, speaks=False)
    if records.num_auxiliary == 0:
        raise InvalidRequestError(
            f"auxiliary_weight is {config.auxiliary_weight}, and {config.data.records} "
            "does not say what frames show; set it to 0"
        )
    return records.num_auxiliary


def check_validation(
    config: StageConfig, items: Sequence[Item | MalformedRecord]
) -> tuple[str, ...]:
    """Look at what a run would be measured on; warns where both name the same video."""
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
    trained_on = {os.path.abspath(config.data.media_root / path) for path in media_paths(items)}
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
