"""What a decoder other than FFmpeg must know of the segments before it sees a byte of them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields
from typing import Any, Self

from groundserve.errors import InvalidRequestError
from groundserve.strict_json import parse_object

ROTATIONS = (0, 90, 180, 270)
# Names of FFmpeg's; they are repeated in messages and in INFO.
_NAME = re.compile(r"[a-z0-9_]{1,32}")
_MAX_SIDE_PIXELS = 65_535
"""Of any codec here; what is served is limited by `Limits.max_side_pixels`."""
_MAX_FRAMES = 2**31 - 1
"""Ordinals are int32."""


@dataclass(frozen=True, kw_only=True)
class StreamInfo:
    """The video stream of segments, found by the worker that cut them.

    It travels beside the segments as the tensor `STREAM` of the model `video_decode`, so it may
    come from the wire; objects that break a rule below cannot be made. It says what to expect, and
    whoever decodes without a sandbox must not take it for a promise.
    """

    codec_name: str
    """FFmpeg's name of the codec, such as "h264"."""
    pixel_format: str
    """FFmpeg's name of the layout that the codec decodes to, such as "yuv420p10le"."""
    width: int
    """Pixels of a decoded frame, before rotation."""
    height: int
    """Pixels of a decoded frame, before rotation."""
    rotation: int
    """Degrees, one of 0, 90, 180, 270: turning a frame so far counterclockwise shows it upright."""
    frame_counts: tuple[int, ...]
    """Frames of each segment, >= 1: its packets that are shown."""

    def __post_init__(self) -> None:
        for name in ("codec_name", "pixel_format"):
            value = getattr(self, name)
            if not isinstance(value, str) or not _NAME.fullmatch(value):
                raise InvalidRequestError(
                    f"{name} must be 1 to 32 of a-z, 0-9 and _, got {str(value)[:40]!r}"
                )
        for name in ("width", "height"):
            _check_count(name, getattr(self, name), maximum=_MAX_SIDE_PIXELS)
        # `isinstance` would take JSON's true for 1.
        if type(self.rotation) is not int or self.rotation not in ROTATIONS:
            raise InvalidRequestError(f"rotation must be one of {ROTATIONS}, got {self.rotation!r}")
        if type(self.frame_counts) is not tuple or not self.frame_counts:
            raise InvalidRequestError("frame_counts must have one entry a segment")
        for count in self.frame_counts:
            _check_count("each of frame_counts", count, maximum=_MAX_FRAMES)

    @property
    def quarter_turns(self) -> int:
        """Counterclockwise turns by 90 degrees that show a frame upright, 0 to 3."""
        return self.rotation // 90

    def to_json(self) -> str:
        """Render as one JSON object."""
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read `to_json`'s text; errors as of `from_fields`."""
        return cls.from_fields(parse_object(text, "STREAM"))

    @classmethod
    def from_fields(cls, values: Any) -> Self:
        """Make one from a JSON object that has exactly these fields."""
        names = [field.name for field in fields(cls)]
        if not isinstance(values, dict) or sorted(values) != sorted(names):
            raise InvalidRequestError(
                f"a stream's description must be an object of {', '.join(names)}"
            )
        counts = values["frame_counts"]
        if not isinstance(counts, list):
            raise InvalidRequestError("frame_counts must be a list")
        return cls(**{**values, "frame_counts": tuple(counts)})


def _check_count(name: str, value: Any, *, maximum: int) -> None:
    if type(value) is not int or not 1 <= value <= maximum:
        raise InvalidRequestError(f"{name} must be 1 to {maximum}, got {repr(value)[:40]}")
