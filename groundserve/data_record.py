"""One record of a data file, its fields checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from textwrap import shorten
from typing import Any, Literal

from groundserve.errors import InvalidRequestError
from groundserve.strict_json import is_finite_number

MediaKind = Literal["video", "image", "features"]
Role = Literal["user", "assistant"]

IMAGE_PLACEHOLDER = "<image>"
"""Where a record's text has its image or video."""
MAX_SECONDS = 1e9
"""A longer `duration` is none: 31 years."""
_ROLES: dict[object, Role] = {"human": "user", "gpt": "assistant"}


@dataclass(frozen=True, slots=True)
class Media:
    """A file that records ask about."""

    kind: MediaKind
    path: str
    """Below the media root, as the record spells it."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameTargets:
    """What each sampled frame shows, out of A things."""

    num: int
    """A >= 1."""
    frames: tuple[tuple[int, ...], ...]
    """For each of the T frames the things shown, each 0 to A - 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What one entry of a data file says."""

    name: str
    """Its `id`, or "#" and its place in the file."""
    media: Media | None
    """None: text alone."""
    messages: tuple[Message, ...]
    """The conversation; in stage 4 the question alone, without placeholder."""
    positive_frames: tuple[int, ...] | None = None
    """Stage 4: 0-based ordinals in the list of sampled frames that are relevant; may be empty."""
    frame_targets: FrameTargets | None = None
    """For the auxiliary loss."""
    duration: float | None = None
    """Seconds that the video lasts, where the entry says so; what it costs is guessed from it."""
    clip_seconds: tuple[float, float] | None = None
    """Start and end of the part of the video that is meant; None: the whole."""
    ignores_media: bool = False
    """Whether the text is to be learnt as if there were no video."""

    @property
    def num_words(self) -> int:
        """Words of the first question, by which the reference groups samples."""
        return len(self.messages[0].text.replace(IMAGE_PLACEHOLDER, " ").split())


def parse_record(fields: Any, *, name: str, is_grounding: bool) -> Record:
    """Check an entry, as JSON has it, and take over what training and evaluation use.

    `is_grounding` says that it is of VideoITG-40K, with a question and the frames that answer it
    (stage 4); else it is of a file of conversations.
    """
    if not isinstance(fields, dict):
        raise InvalidRequestError(f"a record must be an object, got {type(fields).__name__}")
    media = _parse_media(fields)
    if not is_grounding:
        messages = _parse_conversation(fields.get("conversations"))
    elif media is None or media.kind != "video":
        raise InvalidRequestError('video is missing; in stage "grounding" every record has one')
    else:
        messages = (Message("user", _parse_question(fields)),)
    duration: Any = fields.get("duration")
    if not is_finite_number(duration) or not 0 < duration <= MAX_SECONDS:
        duration = None  # a hint alone: what cannot be one is no fault of the record
    return Record(
        name=name,
        media=media,
        messages=messages,
        positive_frames=_parse_positive_frames(fields) if is_grounding else None,
        frame_targets=_parse_frame_targets(fields.get("frame_targets")),
        duration=None if duration is None else float(duration),
    )


def ordinals(value: object, name: str) -> tuple[int, ...]:
    """Return a list of whole numbers >= 0 as a tuple; anything else is an InvalidRequestError."""
    # Not `isinstance`: JSON's true is a bool, which is an int.
    if not isinstance(value, list) or not all(type(i) is int and i >= 0 for i in value):
        found = "it is missing" if value is None else f"got {shorten(repr(value), 60)}"
        raise InvalidRequestError(f"{name} must be a list of whole numbers >= 0, {found}")
    return tuple(value)


def require_text(value: object, name: str) -> str:
    """Return a text that is Unicode; anything else is an InvalidRequestError."""
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name} must be text, got {type(value).__name__}")
    try:  # JSON can spell half a surrogate pair, which no tokenizer takes
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            f"{name} must be Unicode text, got {value[error.start : error.end]!r} in it"
        ) from None
    return value


def media_path(value: object, name: str) -> str:
    """Return a path that stays below the folder it is given: a data file comes from elsewhere."""
    path = require_text(value, name)
    parts = PurePosixPath(path)
    if not path or parts.is_absolute() or ".." in parts.parts:
        raise InvalidRequestError(
            f"{name} must be a path below the media root without '..', got {path!r}"
        )
    return path


def _parse_media(fields: Mapping[str, Any]) -> Media | None:
    kinds: tuple[MediaKind, ...] = ("video", "image")
    named = [kind for kind in kinds if fields.get(kind) is not None]
    if not named:
        return None
    if len(named) > 1:
        raise InvalidRequestError("a record must have a video or an image, not both")
    (kind,) = named
    return Media(kind, media_path(fields[kind], kind))


def _parse_conversation(value: object) -> tuple[Message, ...]:
    messages = tuple(map(_parse_message, value)) if isinstance(value, list) else ()
    if messages and messages[0].role == "assistant":
        messages = messages[1:]  # it answers nothing; the reference leaves one such message out too
    if len(messages) < 2:
        raise InvalidRequestError(
            "conversations must be a list of at least two messages, not counting one from "
            f'"gpt" at its beginning, got {len(messages)}'
        )
    if messages[0].role != "user":
        raise InvalidRequestError(
            'the first message of conversations must be from "human", after at most one from "gpt"'
        )
    return messages


def _parse_message(value: object) -> Message:
    fields = value if isinstance(value, dict) else {}
    role = _ROLES.get(str(fields.get("from")))
    if role is None:
        raise InvalidRequestError(
            'a message of conversations must be {"from": "human" or "gpt", "value": text}'
        )
    return Message(role, require_text(fields.get("value"), "a message of conversations"))


def _parse_question(fields: Mapping[str, Any]) -> str:
    question = fields.get("question")
    if question is None:
        if fields.get("conversations") is None:
            raise InvalidRequestError(
                "question is missing; a conversation of two messages may stand for it"
            )
        messages = _parse_conversation(fields["conversations"])
        if len(messages) != 2:
            raise InvalidRequestError(
                f"conversations must have two messages where question is missing, "
                f"got {len(messages)}"
            )
        question = messages[0].text
        if not question.replace(IMAGE_PLACEHOLDER, "").strip():
            raise InvalidRequestError(
                "question is missing, and the message from human in conversations, which stands "
                "for it, must not be empty"
            )
    # `groundserve.families.videoitg.prompt` puts the placeholder back in front.
    return require_text(question, "question").replace(f"{IMAGE_PLACEHOLDER}\n", "")


def _parse_positive_frames(fields: Mapping[str, Any]) -> tuple[int, ...]:
    # The released loader reads `clip_num`; in the released file those are 5-second clips, and
    # taking them for frames trains on wrong labels without an error.
    if "frame_num" not in fields and "clip_num" in fields:
        raise InvalidRequestError(
            "frame_num is missing and clip_num, which counts 5-second clips, cannot stand for it; "
            "give the relevant frames, counted at 1 frame per second, as frame_num"
        )
    return ordinals(fields.get("frame_num"), "frame_num")


def _parse_frame_targets(value: object) -> FrameTargets | None:
    if value is None:
        return None
    fields = value if isinstance(value, dict) else {}
    num, frames = fields.get("num"), fields.get("frames")
    if type(num) is not int or num < 1 or not isinstance(frames, list):
        raise InvalidRequestError('frame_targets must be {"num": A >= 1, "frames": [[id, ...]]}')
    found = tuple(ordinals(frame, "a frame of frame_targets") for frame in frames)
    if any(i >= num for frame in found for i in frame):
        raise InvalidRequestError(f"the ids of frame_targets must be 0 to {num - 1}")
    return FrameTargets(num=num, frames=found)
