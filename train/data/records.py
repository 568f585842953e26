"""A data file: a JSON list of records in the reference's formats.

Stages 1 to 3 read LLaVA's: `conversations`, and at most one of `image` and `video`. Stage 4 reads
VideoITG-40K's: `video`, `question` (or a conversation of two messages) and `frame_num`. Both may
have two keys of our own, `frame_targets` and `duration`. Other keys are not read. A family that
answers in text reads its own. What is read at one time is an `Item`: a media file with some of its
records.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from groundserve.data_record import (
    IMAGE_PLACEHOLDER,
    Media,
    Message,
    Record,
    ordinals,
    parse_record,
)
from groundserve.errors import InvalidRequestError
from train.config import Stage
from train.families import stage_family

CLIP_SECONDS = 5
"""What one `clip_num` of VideoITG-40K lasts."""

UNKNOWN_SECONDS = 100.0
"""How long a video is taken to be that says nothing: about the mean of VideoITG-40K's folders."""
# LLaVA-Video-178K's folders, whose names VideoITG-40K repeats: 30_60_s_youtube, 1_2_m_academic.
# At most nine digits: a name is no reason for a number past floats.
_FOLDER = re.compile(r"(?:^|/)(\d{1,9})_(\d{1,9})_([sm])_")
_CONVERSION = (
    "convert it with: python -c 'import json, sys; "
    "json.dump([json.loads(line) for line in sys.stdin if line.strip()], sys.stdout)' "
    "< records.jsonl > records.json"
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class MalformedRecord:
    """An entry that breaks the format; it keeps its place in the order."""

    name: str
    path: str | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class RecordFile:
    """A file's entries in order."""

    records: list[Record | MalformedRecord]
    num_auxiliary: int
    """A of every record's `frame_targets`; 0 if none has the key."""
    warnings: tuple[str, ...] = ()


def read_records(path: Path, *, stage: Stage, speaks: bool = True) -> RecordFile:
    """Read a file; entries that break the format do not stop the others.

    `speaks` is whether to log what is wrong; a run looks more than once, and says it once.

    Raises:
        InvalidRequestError: It is not a JSON list, no entry can be used, or the entries disagree
            about `frame_targets`.
    """
    values = load_list(path)
    records = [_parse(value, place, stage) for place, value in enumerate(values)]
    malformed = [record for record in records if isinstance(record, MalformedRecord)]
    if len(malformed) == len(records):
        raise InvalidRequestError(f"{path}: no record can be used; first: {malformed[0].reason}")
    if malformed and speaks:
        found = f"{len(malformed)} of {len(records)} records cannot be used"
        first = malformed[0]
        logger.warning("%s: %s; first: record %s: %s", path, found, first.name, first.reason)
    valid = [record for record in records if isinstance(record, Record)]
    warnings: tuple[str, ...] = ()
    if stage == "grounding":
        warnings = (*_clip_ordinal_warnings(path, values), *_repetition_warnings(path, valid))
    for warning in warnings if speaks else ():
        logger.warning("%s", warning)
    return RecordFile(records=records, num_auxiliary=_num_auxiliary(path, valid), warnings=warnings)


def load_list(path: Path) -> list[Any]:
    """Read a data file's entries as they are."""
    try:
        text = path.read_bytes()
        values = json.loads(text)
    except OSError as error:
        raise InvalidRequestError(f"cannot read the records {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        if _is_json_object(text.lstrip().partition(b"\n")[0]):
            raise InvalidRequestError(
                f"{path} must be one JSON list, this is JSON lines, a record a line; {_CONVERSION}"
            ) from None
        raise InvalidRequestError(f"{path} must be JSON: {error}") from None
    if not isinstance(values, list) or not values:
        found = "an empty list" if values == [] else f"one {type(values).__name__}"
        raise InvalidRequestError(f"{path} must be a JSON list of at least one record, got {found}")
    return values


def check_placeholders(messages: Sequence[Message], *, has_media: bool) -> None:
    """Raise InvalidRequestError where `<image>` do not all stand for the one image or video.

    Several in the first message are one, which goes to its front, as in the reference. One in a
    later message would be a second image; there the reference ends with an IndexError.
    """
    others = messages[1:] if has_media else messages
    found = sum(message.text.count(IMAGE_PLACEHOLDER) for message in others)
    if found:
        rule = "in the first message only" if has_media else "only with an image or a video"
        raise InvalidRequestError(
            f"conversations may have the placeholder {IMAGE_PLACEHOLDER} {rule}, got {found}"
            + (" elsewhere" if has_media else "")
        )


def _is_json_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _parse(value: object, place: int, stage: Stage) -> Record | MalformedRecord:
    fields = value if isinstance(value, dict) else {}
    identity = fields.get("id")
    name = f"#{place}" if identity is None else _printable(str(identity))
    try:
        if family := stage_family(stage):
            return family.parse_record(value, name=name)
        return parse_record(value, name=name, is_grounding=stage == "grounding")
    except InvalidRequestError as error:
        paths = (fields.get("video"), fields.get("image"))
        path = next((_printable(path) for path in paths if isinstance(path, str)), None)
        return MalformedRecord(name=name, path=path, reason=str(error))


def _printable(text: str) -> str:
    # JSON can spell half a surrogate pair, at which a terminal's encoding would fail.
    return text.encode(errors="backslashreplace").decode()


def _num_auxiliary(path: Path, records: Iterable[Record]) -> int:
    nums = {record.frame_targets.num if record.frame_targets else 0 for record in records}
    if len(nums) > 1:
        raise InvalidRequestError(
            f"{path}: all records must have frame_targets with the same num, or none, "
            f"got {sorted(nums)} (0 where it is missing)"
        )
    return nums.pop()


def _repetition_warnings(path: Path, records: Iterable[Record]) -> tuple[str, ...]:
    """Return a warning where a question is asked of a video twice; most likely by mistake."""
    seen: dict[tuple[object, ...], Record] = {}
    repeated: list[tuple[Record, Record]] = []
    for record in records:
        first = seen.setdefault((record.media, record.messages), record)
        if first is not record:
            repeated.append((first, record))
    if not repeated:
        return ()
    first, second = repeated[0]
    differ = sum(a.positive_frames != b.positive_frames for a, b in repeated)
    assert first.media is not None  # every record of this stage has a video
    return (
        f"{path}: {len(repeated)} records repeat video and question of an earlier one, {differ} of "
        f"them with another frame_num; the first: records {first.name} and {second.name} about "
        f"{first.media.path}",
    )


def _clip_ordinal_warnings(path: Path, values: list[Any]) -> tuple[str, ...]:
    """Return a warning where most `frame_num` do not lie in the clips that `clip_num` names."""
    # A file "repaired" for the released loader has clip ordinals, or both columns swapped.
    num_compared = num_wrong = 0
    for value in values:
        try:
            frames = ordinals(value["frame_num"], "frame_num")
            clips = ordinals(value["clip_num"], "clip_num")
        except (InvalidRequestError, KeyError, TypeError):
            continue
        num_compared += 1
        num_wrong += {frame // CLIP_SECONDS for frame in frames} != set(clips)
    if 2 * num_wrong <= num_compared:
        return ()
    return (
        f"{path}: in {num_wrong} of {num_compared} records frame_num does not lie in the "
        f"{CLIP_SECONDS}-second clips of clip_num; frame_num must count frames at 1 per second, "
        "not clips",
    )


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
    for media, group in groupby(records, key=lambda record: getattr(record, "media", None)):
        # groupby's groups are iterators that end with the next one.
        run = list(group)
        # Records without media have nothing to share; malformed ones have none.
        step = questions_per_video if media else 1
        for start in range(0, len(run), step):
            members = run[start : start + step]
            valid = tuple(one for one in members if isinstance(one, Record))
            malformed = [one for one in members if isinstance(one, MalformedRecord)]
            items += malformed or [Item(media=media, records=valid)]
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
