"""Several streams of a video: each frame is decoded once, and made for the streams that show it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from groundserve.deadline import Deadline
from groundserve.families.plans import FrameStream, PlanInput, VideoPlan
from groundserve.families.vision_inputs import VisionInputs
from groundserve.manifest import CHUNK_FRAMES
from python_backend.chunks import ChunkRunner
from python_backend.decode import DecodedFrames
from python_backend.meter import Counts
from python_backend.stopwatch import Stopwatch
from tests.unit.python_backend.plans import plan_of, with_keys

TIMES = PlanInput(name="TIMES", dims=(1,), max_dims=(1,), of_units=True)
SCALE = PlanInput(name="SCALE", dims=(1,), max_dims=(1,))


class Recorder:
    """Fake stages: what is made for which stream; features are the ordinals of each unit."""

    def __init__(self, *streams: FrameStream, most_targets: int = CHUNK_FRAMES, with_inputs=False):
        self.most_targets = most_targets
        self.decoded: list[int] = []
        self.group_sizes: list[int] = []
        self.made = [Counter() for _ in streams]
        self.num_units: list[int] = []
        self.times: list[float] = []
        self.counts = Counts()
        self.inputs = VisionInputs(
            streams=streams, plan_inputs=(SCALE, TIMES) if with_inputs else ()
        )
        self.runner = ChunkRunner(
            decode=self.decode,
            encode=self.encode,
            inputs=self.inputs,
            num_encodes=1,
            max_segment_bytes=2**20,
            watch=Stopwatch(),
            meter=self.counts,
            deadline=Deadline.after(60),
        )

    def run(self, plan: VideoPlan) -> list[np.ndarray]:
        """Return of each stream (U, F'), the ordinals that were encoded."""
        features = self.runner.run(SimpleNamespace(cut=self.cut), plan).features[:, 0]
        lengths = [len(stream.frames) for stream in self.inputs.streams]
        return np.split(features.astype(np.int64), np.cumsum(lengths)[:-1], axis=1)

    def cut(self, frame_indices, *, max_bytes):
        frame_indices = frame_indices[: self.most_targets]
        return SimpleNamespace(frame_indices=frame_indices, num_frames=len(frame_indices))

    def decode(self, segments, shown):
        frame_indices = segments.frame_indices
        self.decoded += frame_indices.tolist()
        self.group_sizes.append(len(frame_indices))
        streams = []
        for made, stream, of_stream in zip(self.made, self.inputs.streams, shown.T, strict=True):
            made.update(frame_indices[of_stream].tolist())
            frames = np.zeros((of_stream.sum(), stream.size, stream.size, 3), np.uint16)
            frames[:, 0, 0, 0] = frame_indices[of_stream]
            streams.append(frames)
        return DecodedFrames(tuple(streams), "fake")

    def encode(self, *arrays):
        frames = arrays[: len(self.inputs.streams)]
        self.num_units.append(len(frames[0]))
        for stream, of_stream in zip(self.inputs.streams, frames, strict=True):
            assert of_stream.shape == stream.shape(len(frames[0]))
        if len(arrays) > len(frames):
            scale, times = arrays[-2:]
            assert scale.tolist() == [[3]]
            assert len(times) == len(frames[0])
            self.times += times[:, 0].tolist()
        ordinals = [one[..., 0, 0, 0].reshape(len(one), -1) for one in frames]
        return np.concatenate(ordinals, axis=1)[:, None].astype(np.float32)


def check(stages: Recorder, plan: VideoPlan, found: list[np.ndarray]) -> None:
    """Each unit has its frames in each stream; each frame was decoded once and made for those."""
    shown = plan.decoded_indices[plan.units]
    for stream, made, ordinals in zip(stages.inputs.streams, stages.made, found, strict=True):
        wanted = shown[:, list(stream.frames)]
        np.testing.assert_array_equal(ordinals, wanted)
        assert made == Counter(np.unique(wanted).tolist())
    assert stages.decoded == plan.decoded_indices.tolist()
    assert stages.counts["frames_decoded"] == len(plan.decoded_indices)
    assert stages.counts["vision_frames"] == len(plan.units)
    assert max(stages.num_units) <= stages.inputs.max_units


@pytest.mark.parametrize("most_targets", [1, 7, 64])
@pytest.mark.parametrize("seed", range(8))
def test_any_units_streams_and_key_frames(seed, most_targets):
    random = np.random.default_rng(seed)
    length, step = random.integers(1, 40), random.integers(1, 40)
    shown = np.arange(60)[:, np.newaxis] * min(step, length) + np.arange(length)
    plan = plan_of(*np.minimum(shown, shown.max() - random.integers(0, 40)))
    keys = random.choice(shown.max() + 1, size=random.integers(0, 60))
    places = [random.choice(length, random.integers(1, length + 1), False) for _ in range(2)]
    stages = Recorder(
        FrameStream(name="ALL", size=2, frames=tuple(range(length))),
        *(FrameStream(name=f"S{len(one)}", size=3, frames=tuple(one)) for one in places),
        most_targets=most_targets,
    )
    plan = with_keys(plan, keys)
    check(stages, plan, stages.run(plan))


def test_plan_inputs_of_units_go_with_their_units():
    plan = plan_of(*(np.arange(96).reshape(12, 8)))
    times = np.arange(12, dtype=np.float32)[:, None]
    plan = replace(plan, inputs={"TIMES": times, "SCALE": np.array([3], np.float32)})
    stages = Recorder(
        FrameStream(name="ALL", size=2, frames=tuple(range(8))),
        FrameStream(name="KEYS", size=3, frames=(4,)),
        with_inputs=True,
    )
    check(stages, plan, stages.run(plan))
    assert stages.num_units == [8, 4]
    assert stages.times == list(range(12))
