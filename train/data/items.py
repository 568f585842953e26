"""What is read at one time: a media file with some of its records."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from groundserve.data_record import Media, Record
from train.data.records import MalformedRecord

UNKNOWN_SECONDS = 100.0
"""How long a video is taken to be that says nothing: about the mean of VideoITG-40K's folders."""
# LLaVA-Video-178K's folders, whose names VideoITG-40K repeats: 30_60_s_youtube, 1_2_m_academic.
# At most nine digits: a name is no reason for a number past floats.
_FOLDER = re.compile(r"(?:^|/)(\d{1,9})_(\d{1,9})_([sm])_")


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """Records that share one decoding and encoding."""

    media: Media | None
    records: tuple[Record, ...]
    """At least one, all of that media; exactly one where there is none."""


def group_records(
    records: Iterable[Record | MalformedRecord], *, questions_per_video: int
) -> list[Item | MalformedRecord]:
    """Put neighbours that ask about one file together, in file order.

    The reference makes every record an item of its own, which `questions_per_video` = 1 does too.
    Records of a file that do not follow one another are not brought together: what is trained on
    jointly is decided by the data file alone.

        records  a a a b - a        (- a malformed one, or one without media)
        items    [a a] [a] [b] - [a]                      questions_per_video = 2
    """
    items: list[Item | MalformedRecord] = []
    for media, group in groupby(records, key=_media_of):
        # groupby's groups are iterators that end with the next one.
        run = list(group)
        # Records without media have nothing to share.
        step = questions_per_video if media else 1
        items += [_new_item(media, run[i : i + step]) for i in range(0, len(run), step)]
    return items


def guess_num_frames(item: Item, *, sample_fps: float, max_frames: int) -> int:
    """Guess T from the records.

    It is known where the records list what every frame shows, and for images. A video lasts the
    record's `duration`, or else the middle of what the name of its folder says, but reaches the
    last relevant frame; one that says nothing, `UNKNOWN_SECONDS`.
    """
    if item.media is None or item.media.kind == "image":
        return 1
    targets = item.records[0].frame_targets
    if targets is not None:
        return len(targets.frames)
    seconds = item.records[0].duration or _folder_seconds(item.media.path) or UNKNOWN_SECONDS
    named = [frame for record in item.records for frame in record.positive_frames or ()]
    # A relevant frame at ordinal n says that there are n + 1 at least.
    return min(max(round(seconds * sample_fps), 1 + max(named, default=0)), max_frames)


def _folder_seconds(path: str) -> float | None:
    found = _FOLDER.search(path)
    if found is None:
        return None
    middle = (int(found[1]) + int(found[2])) / 2
    return middle * (60 if found[3] == "m" else 1)


def _media_of(record: Record | MalformedRecord) -> Media | None:
    return record.media if isinstance(record, Record) else None


def _new_item(
    media: Media | None, members: list[Record | MalformedRecord]
) -> Item | MalformedRecord:
    records = tuple(record for record in members if isinstance(record, Record))
    if not records:  # malformed entries have no media, so they are alone here
        (malformed,) = members
        assert isinstance(malformed, MalformedRecord)
        return malformed
    return Item(media=media, records=records)
