"""Write into a data file how long its videos last, by which their samples are dealt to ranks.

    python -m train.data.durations data/video_itg_data.json --media-root data/media --out FILE

Every video is opened once and none is decoded. One that cannot be read keeps no `duration`, and
training counts it as unreadable when it comes to it.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from groundserve.errors import GroundserveError
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoSource
from groundserve.runtime.deadline import Deadline
from train.data.reader import READ_SECONDS, rank_cpus
from train.data.records import load_list
from train.files import replacing

logger = logging.getLogger(__name__)


def add_durations(records: Path, out: Path, *, media_root: Path, num_workers: int) -> int:
    """Copy a data file, each entry with its video's `duration`; return how many are unreadable."""
    # Entries as they are, malformed ones too: this copies a file, training judges it.
    entries = load_list(records)
    with_video = [e for e in entries if isinstance(e, dict) and isinstance(e.get("video"), str)]
    # A video has many records and is opened once.
    paths = list(dict.fromkeys(entry["video"] for entry in with_video))
    with (
        replacing(out) as file,  # opened first: what follows may take hours
        MediaWorkers(limits=Limits(), num_workers=num_workers, num_cpus=rank_cpus()) as workers,
        # They only wait: the workers do the work.
        ThreadPoolExecutor(num_workers) as threads,
    ):
        seconds = threads.map(lambda path: video_seconds(media_root / path, workers), paths)
        found = dict(zip(paths, seconds, strict=True))
        for entry in with_video:
            if found[entry["video"]] is not None:
                entry["duration"] = found[entry["video"]]
        file.write(json.dumps(entries).encode())
    return sum(seconds is None for seconds in found.values())


def video_seconds(path: Path, workers: MediaWorkers) -> float | None:
    """Return what a video lasts, to the millisecond; None: it cannot be read, or not in time."""
    try:
        with (
            VideoSource.from_path(path, limits=Limits()) as source,
            workers.open(source, deadline=Deadline.after(READ_SECONDS)) as video,
        ):
            return round(video.index.num_source_frames / video.index.average_fps, 3)
    except GroundserveError as error:
        logger.warning("cannot read %s: %s", path, error)
        return None


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m train.data.durations")
    parser.add_argument("records", type=Path)
    parser.add_argument("--media-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="file to be written")
    parser.add_argument("--num-workers", type=int, default=8, help="videos opened at one time")
    given = parser.parse_args(arguments)
    try:
        num_lost = add_durations(
            given.records, given.out, media_root=given.media_root, num_workers=given.num_workers
        )
    except GroundserveError as error:
        parser.error(str(error))
    logger.info("wrote %s; %d videos could not be read", given.out, num_lost)


if __name__ == "__main__":
    main()
