"""Chunks of a plan's units, and frames as decoded, of which few are held at once."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from groundserve.engines.manifest import CHUNK_FRAMES
from groundserve.errors import MediaError
from groundserve.families.plans import FrameStream, VideoPlan
from groundserve.families.vision_inputs import VisionInputs
from groundserve.runtime.deadline import Deadline
from python_backend.chunks import ChunkRunner
from python_backend.decode import DecodedFrames
from python_backend.meter import Counts
from python_backend.stopwatch import Stopwatch
from tests.unit.python_backend.plans import frame_units, with_keys

ONE = FrameStream(name="FRAMES", size=2)


def pixels(numbers: np.ndarray) -> np.ndarray:
    frames = np.zeros((len(numbers), 2, 2, 3), np.uint8)
    frames[:, 0, 0, 0] = numbers
    return frames


def repeated(num_source_frames: int, num_sampled: int) -> np.ndarray:
    """Sample more frames than there are: `linspace`, rounded down, as some references do."""
    return np.linspace(0, num_source_frames - 1, num_sampled).astype(np.int64)


class Recorder:
    """Fake stages: remembers what is decoded, and answers the red of each unit's frames."""

    def __init__(self, stream: FrameStream):
        self.decoded: list[list[int]] = []
        self.num_units: list[int] = []
        self.counts = Counts()
        self.runner = ChunkRunner(
            decode=self.decode,
            encode=self.encode,
            inputs=VisionInputs(streams=(stream,), plan_inputs=()),
            num_encodes=1,
            max_segment_bytes=2**20,
            watch=Stopwatch(),
            meter=self.counts,
            deadline=Deadline.after(60),
        )

    @property
    def all_decoded(self) -> list[int]:
        return [index for chunk in self.decoded for index in chunk]

    def run(self, plan: VideoPlan) -> np.ndarray:
        """Return (U, F), of each unit the ordinals that were encoded."""
        return self.runner.run(SimpleNamespace(cut=self.cut), plan).features[:, :, 0]

    def cut(self, frame_indices, *, max_bytes):
        return SimpleNamespace(frame_indices=frame_indices, num_frames=len(frame_indices))

    def decode(self, segments, shown):
        frame_indices = segments.frame_indices
        self.decoded.append(frame_indices.tolist())
        return DecodedFrames((pixels(frame_indices[shown[:, 0]]),), "fake")

    def encode(self, frames):
        self.num_units.append(len(frames))
        # (u, F) or (u,), then (u, F, 1)
        return frames[..., 0, 0, 0].reshape(len(frames), -1, 1).astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
def test_chunks_are_the_same_whatever_the_key_frames(seed):
    """What is encoded follows the units alone, and its frames are the right ones."""
    random = np.random.default_rng(seed)
    shown = np.sort(random.choice(1000, size=random.integers(1, 400), replace=False))
    plan = frame_units(shown)
    keys = random.choice(shown[-1] + 1, size=min(shown[-1] + 1, random.integers(0, 60)))
    stages = Recorder(ONE)
    encoded = stages.run(with_keys(plan, keys))
    np.testing.assert_array_equal(encoded[:, 0], shown % 256)
    assert stages.all_decoded == shown.tolist()
    assert stages.num_units == [len(part) for part in np.split(shown, range(64, len(shown), 64))]
    assert max(map(len, stages.decoded)) <= CHUNK_FRAMES


class LargeFrames(Recorder):
    """Frames as decoded, of so many pixels that few are held at once."""

    def __init__(self, *, side: int):
        super().__init__(FrameStream(name="RAW", size=None))
        self.side = side

        self.first_side = side

    def run(self, plan: VideoPlan) -> np.ndarray:
        index = replace(plan.index, width=self.side, height=self.side)
        video = SimpleNamespace(cut=self.cut, index=index)
        return self.runner.run(video, replace(plan, index=index)).features[:, :, 0]

    def cut(self, frame_indices, *, max_bytes):
        segments = super().cut(frame_indices, max_bytes=max_bytes)
        segments.stream = SimpleNamespace(width=self.first_side, height=self.first_side)
        return segments


@pytest.mark.parametrize(
    ("side", "shown", "encode_sizes"),
    [
        # Of 0.75, 4 and 192 MiB.
        pytest.param(512, np.arange(100), [64, 36], id="small"),
        pytest.param(1182, np.arange(100), [32, 32, 32, 4], id="large"),
        pytest.param(8192, np.arange(3), [1, 1, 1], id="one_alone"),
        # Each repeat is a copy: not more of them at once than there may be frames.
        pytest.param(1182, repeated(5, 100), [32, 32, 32, 4], id="five_frames_100_times"),
    ],
)
def test_frames_as_decoded_are_held_by_bytes(side, shown, encode_sizes):
    stages = LargeFrames(side=side)
    np.testing.assert_array_equal(stages.run(frame_units(shown))[:, 0], shown)
    assert stages.num_units == encode_sizes
    assert stages.all_decoded == np.unique(shown).tolist()
    assert max(map(len, stages.decoded)) <= max(encode_sizes)
    assert stages.counts["frames_decoded"] == len(np.unique(shown))
    assert stages.counts["vision_frames"] == len(shown)


def test_frames_of_two_sizes_are_refused():
    class Growing(LargeFrames):
        def decode(self, segments, shown):
            decoded = super().decode(segments, shown)
            if segments.frame_indices[0] == 0:
                return decoded
            return replace(decoded, streams=(decoded.frames.repeat(2, axis=2),))

    stages = Growing(side=1182)
    with pytest.raises(MediaError, match="frames differ in size, and are wanted as decoded"):
        stages.run(frame_units(np.arange(64)))
    assert stages.num_units in ([], [32])


def test_frames_larger_than_announced_are_refused_before_they_are_decoded():
    """By what is announced there would be room for more of them."""
    stages = LargeFrames(side=100)
    stages.first_side = 101
    with pytest.raises(MediaError, match="101 x 101 pixels, announced 100 x 100; re-encode it"):
        stages.run(frame_units(np.arange(3)))
    assert stages.decoded == []
