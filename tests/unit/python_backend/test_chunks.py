"""How many chunks are decoded and encoded at once, in which order, and what an error leaves."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import weakref
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from groundserve.engines.manifest import CHUNK_FRAMES
from groundserve.errors import (
    MediaError,
    RequestCancelledError,
    UnavailableError,
)
from groundserve.families.plans import FrameStream
from groundserve.families.vision_inputs import VisionInputs
from groundserve.runtime.deadline import Deadline
from python_backend.chunks import ChunkRunner
from python_backend.decode import DecodedFrames
from python_backend.meter import Counts
from python_backend.stopwatch import Stopwatch
from python_backend.units import decoded_pixels
from tests.unit.python_backend.plans import frame_units, with_keys

WAIT_SECONDS = 30.0
"""How long a call waits for another that must come; it is never waited out but by a failure."""
STREAM = FrameStream(name="FRAMES", size=1)


class Stages:
    """Fake stages of a video of whole chunks; the features of a frame are its ordinal."""

    def __init__(self, num_chunks: int, *, num_encodes: int, deadline: Deadline | None = None):
        self.frame_indices = np.arange(num_chunks * CHUNK_FRAMES)
        self.most_targets = CHUNK_FRAMES
        """Targets whose segments fit one call."""
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.most_encodes = self.most_chunks = self.num_decodes = 0
        self.arrays: list[weakref.ref[np.ndarray]] = []
        self.lock = threading.Lock()
        self.runner = ChunkRunner(
            decode=self.decode,
            encode=self.encode,
            inputs=VisionInputs(streams=(STREAM,), plan_inputs=()),
            num_encodes=num_encodes,
            max_segment_bytes=2**20,
            watch=Stopwatch(),
            meter=Counts(),
            deadline=deadline or Deadline.after(WAIT_SECONDS),
        )

    def run(self, *, keys: Sequence[int] = (0,)) -> np.ndarray:
        video = SimpleNamespace(cut=self.cut)
        plan = with_keys(frame_units(self.frame_indices), keys)
        return self.runner.run(video, plan).features[:, 0, 0]

    def cut(self, frame_indices, *, max_bytes: int):
        assert max_bytes == self.runner.max_segment_bytes
        frame_indices = frame_indices[: self.most_targets]
        return SimpleNamespace(frame_indices=frame_indices, num_frames=len(frame_indices))

    def decode(self, segments, shown) -> DecodedFrames:
        frame_indices = segments.frame_indices
        assert shown.shape == (len(frame_indices), 1)
        assert shown.all()
        with self.lock:
            self.num_decodes += 1
            self.most_chunks = max(self.most_chunks, self.num_decodes - len(self.ended))
        frames = np.zeros((len(frame_indices), 1, 1, 3), np.uint16)
        frames[:, 0, 0, 0] = frame_indices
        self.arrays.append(weakref.ref(frames))
        return DecodedFrames((frames,), "fake")

    def encode(self, frames) -> np.ndarray:
        chunk = int(frames[0, 0, 0, 0]) // CHUNK_FRAMES
        with self.lock:
            self.begun.append(chunk)
            self.most_encodes = max(self.most_encodes, len(self.begun) - len(self.ended))
        try:
            self.while_encoding(chunk)
        finally:
            with self.lock:
                self.ended.append(chunk)
        features = np.zeros((len(frames), 1, 3), np.float32) + frames[:, 0]
        self.arrays.append(weakref.ref(features))
        return features

    def while_encoding(self, chunk: int) -> None:
        pass


@pytest.mark.parametrize("num_encodes", [1, 3])
def test_so_many_encodes_run_side_by_side_and_no_more(num_encodes):
    class Meeting(Stages):
        together = threading.Barrier(num_encodes)

        def while_encoding(self, chunk):
            self.together.wait(WAIT_SECONDS)  # raises where the others do not come

    stages = Meeting(2 * num_encodes, num_encodes=num_encodes)
    assert stages.run().tolist() == stages.frame_indices.tolist()
    assert stages.most_encodes == num_encodes


def test_features_are_in_order_when_a_later_chunk_is_done_first():
    class SecondFirst(Stages):
        second_done = threading.Event()

        def while_encoding(self, chunk):
            if chunk == 0:
                assert self.second_done.wait(WAIT_SECONDS)
            if chunk == 1:
                self.second_done.set()

    stages = SecondFirst(3, num_encodes=2)
    assert stages.run().tolist() == stages.frame_indices.tolist()


class FirstFails(Stages):
    """The first encode fails while the second runs, which ends a moment later."""

    def __init__(self):
        super().__init__(6, num_encodes=2)
        self.both_run = threading.Barrier(2)
        self.failed = threading.Event()

    def while_encoding(self, chunk):
        self.both_run.wait(WAIT_SECONDS)
        if chunk == 0:
            self.failed.set()
            raise UnavailableError("the first")
        assert self.failed.wait(WAIT_SECONDS)


def test_error_waits_for_the_other_encode_and_begins_none():
    num_threads = threading.active_count()
    stages = FirstFails()
    with pytest.raises(UnavailableError, match="the first"):
        stages.run()
    assert sorted(stages.begun) == sorted(stages.ended) == [0, 1]
    assert stages.num_decodes == 3
    assert threading.active_count() == num_threads


class DecodeFails(Stages):
    """The fourth chunk does not decode."""

    def __init__(self):
        super().__init__(6, num_encodes=2)

    def decode(self, segments, shown):
        decoded = super().decode(segments, shown)
        if segments.frame_indices[0] == 3 * CHUNK_FRAMES:
            raise MediaError("frame 3 of 64 does not decode")
        return decoded


@pytest.mark.parametrize("failing", [FirstFails, DecodeFails])
def test_no_frames_or_features_outlive_an_error(failing):
    """They lie in shared memory or on a GPU: not even until the next garbage collection."""
    stages = failing()
    gc.collect()
    gc.disable()
    try:
        with pytest.raises((UnavailableError, MediaError)):
            stages.run()
        assert stages.arrays
        assert all(array() is None for array in stages.arrays)
    finally:
        gc.enable()


@pytest.mark.parametrize("stage", ["decode", "encode"])
def test_cancelled_request_lets_end_what_has_begun_and_begins_no_more(stage):
    """A stage that goes on until it hears of it, as a decoder does: nobody waits for it before."""

    class UntilCancelled(Stages):
        asked_by_main = threading.Event()

        def is_cancelled(self):
            if threading.current_thread() is threading.main_thread() and self.num_decodes == 2:
                self.asked_by_main.set()
            return self.asked_by_main.is_set()

        def decode(self, segments, shown):
            decoded = super().decode(segments, shown)
            if stage == "decode" and self.num_decodes == 2:
                assert self.asked_by_main.wait(WAIT_SECONDS)
            return decoded

        def while_encoding(self, chunk):
            if stage == "encode":
                assert self.asked_by_main.wait(WAIT_SECONDS)

    num_threads = threading.active_count()
    stages = UntilCancelled(6, num_encodes=1)
    stages.runner = replace(
        stages.runner, deadline=Deadline.after(60, is_cancelled=stages.is_cancelled)
    )
    with pytest.raises(RequestCancelledError):
        stages.run()
    assert sorted(stages.begun) == sorted(stages.ended)
    assert len(stages.begun) <= 1
    assert stages.num_decodes == 2
    assert threading.active_count() == num_threads


@pytest.mark.parametrize(
    ("keys", "frame_indices", "num_frames"),
    [
        pytest.param([0, 100], [3, 99, 100, 105], 100 + 6, id="two_groups"),
        pytest.param([0, 10, 20, 30], [5, 25], 6 + 6, id="groups_without_targets_are_left_out"),
        pytest.param([0, 40, 80], np.arange(120), 120, id="each_group_of_pictures_once"),
        pytest.param([0], np.arange(192), 64 + 128 + 192, id="too_many_for_a_group"),
        pytest.param([], [20, 60], 61, id="no_key_frame"),
    ],
)
def test_decoded_pixels(keys, frame_indices, num_frames):
    plan = with_keys(frame_units(frame_indices), keys)
    assert decoded_pixels(plan) == 30 * 20 * num_frames


def test_chunk_whose_segments_are_too_large_is_decoded_in_parts_and_encoded_whole():
    stages = Stages(2, num_encodes=1)
    stages.most_targets = 25
    np.testing.assert_array_equal(stages.run(), stages.frame_indices)
    assert stages.num_decodes == 2 * 3
    assert stages.begun == [0, 1]


@pytest.mark.parametrize("num_encodes", [1, 2])
@pytest.mark.parametrize("gop_frames", [5, 43, 1000])
def test_as_many_frames_are_held_whatever_the_length(num_encodes, gop_frames):
    frame_bytes = 64 * 64 * 3

    class LargeFrames(Stages):
        def decode(self, segments, shown):
            frames = np.zeros((segments.num_frames, 64, 64, 3), np.uint8)
            return DecodedFrames((frames,), "fake")

        def encode(self, frames):
            return np.zeros((len(frames), 1, 1), np.float32)

    stages = LargeFrames(16, num_encodes=num_encodes)
    tracemalloc.start()
    try:
        stages.run(keys=range(0, len(stages.frame_indices), gop_frames))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Chunks at work, one that is incomplete, a group, and for moments the copy of a chunk.
    most_frames = (num_encodes + 3) * CHUNK_FRAMES
    assert peak < (most_frames + CHUNK_FRAMES // 4) * frame_bytes
