"""What is read at one time: a media file with some of its records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from train.data.record import Media, Record
from train.data.records import MalformedRecord


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
        run = list(group)
        step = questions_per_video if media else 1
        items += [_new_item(media, run[i : i + step]) for i in range(0, len(run), step)]
    return items


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
