"""Decoded frames on their way from the groups they are decoded in to the chunks they belong to."""

from __future__ import annotations

from python_backend.arrays import Array, concatenate, copy


class FrameBuffer:
    """Takes groups of frames in, gives chunks of them out, in order; for one thread at a time.

    A chunk that lies in one group is a part of it and shares its memory; any other is a copy.
    """

    def __init__(self) -> None:
        self._parts: list[Array] = []

    def detach(self) -> None:
        """Let go of the memory of groups: what is left of them is held as a copy.

        To be called before the next group is decoded, so that one is held at a time.
        """
        if self._parts:
            self._parts = [copy(concatenate(self._parts))]

    def put(self, frames: Array) -> None:
        """Append a group: uint8 (n, H, W, 3)."""
        self._parts.append(frames)

    def take(self, num_frames: int, *, num_left: int) -> Array:
        """Return the first m >= 1 frames, uint8 (m, H, W, 3).

        The group put last has all that are beyond them. So many of the last ones stay as `num_left`
        says: at least those beyond.
        """
        *before, last = self._parts
        end = num_frames - sum(map(len, before))
        frames = concatenate([*before, last[:end]]) if before else last[:end]
        beyond = last[end:]
        # The next chunk shows these, too.
        shared = frames[num_frames - (num_left - len(beyond)) :]
        self._parts = [part for part in (shared, beyond) if len(part)]
        return frames
