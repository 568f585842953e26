"""Where the questions of `groundserve eval` come from: a file of records, or a fresh set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.grounding_records import GroundingRecord, read_grounding_records
from groundserve.evaluation.scored_records import require_videos
from groundserve.runtime.own_packages import require_own


@dataclass(frozen=True, kw_only=True)
class Source:
    """Questions about videos."""

    path: Path
    media_root: Path
    """Folder that their video paths start from."""
    records: Sequence[GroundingRecord]
    """At least one."""
    description: dict[str, Any]
    """What the JSON says about it."""


def open_records(path: Path, media_root: Path) -> Source:
    """Read a file of records, all of whose videos are there."""
    records = read_grounding_records(path)
    if not any(record.positive_frames for record in records):
        raise InvalidRequestError(
            f"{path}: frame_num of all {len(records)} records is empty, so there is nothing to "
            "rank; give questions that some frame answers"
        )
    require_videos(records, media_root)
    return Source(
        path=path,
        media_root=media_root,
        records=records,
        description={"kind": "records", "records": str(path), "media_root": str(media_root)},
    )


@dataclass(frozen=True, kw_only=True)
class DigitsSet:
    """A MovingDigits test set that is yet to be drawn."""

    seed: int
    num_videos: int
    num_frames: int
    keep: Path | None
    """Folder to keep it in; None: nowhere."""

    def check(self, *, top_k: int) -> None:
        """Refuse what could not be drawn or measured."""
        require_own("train")
        for name, value in (("num_videos", self.num_videos), ("num_frames", self.num_frames)):
            if value < 1:
                raise InvalidRequestError(f"{name} must be >= 1, got {value}")
        if top_k > self.num_frames:
            raise InvalidRequestError(
                f"top_k must be at most the {self.num_frames} frames of a video (num_frames), "
                f"got {top_k}: keeping every frame tells nothing"
            )
        if self.keep is None or not self.keep.exists():
            return
        if not self.keep.is_dir() or any(self.keep.iterdir()):
            raise InvalidRequestError(
                f"--keep must name an empty or new folder, {self.keep} is none"
            )

    def draw(self, scratch: Path) -> Source:
        """Write the videos and their records, to `scratch` unless they are kept."""
        from train.digits.dataset import VERSION, write_grounding_set

        path = write_grounding_set(
            self.keep or scratch,
            split="test",
            seed=self.seed,
            num_videos=self.num_videos,
            num_frames=self.num_frames,
        )
        return Source(
            path=path,
            media_root=path.parent,
            records=read_grounding_records(path),
            description={
                "kind": "moving_digits",
                "version": VERSION,
                "split": "test",
                "seed": self.seed,
                "num_videos": self.num_videos,
                "num_frames": self.num_frames,
            },
        )
