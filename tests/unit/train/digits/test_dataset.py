"""MovingDigits on disk: what the files hold is what the labels say."""

import json

import numpy as np
import pytest

from groundserve.families.videoitg.sampling import sample_frames
from groundserve.limits import Limits
from groundserve.media import MediaWorkers, VideoSource
from groundserve.runtime.deadline import Deadline
from train.digits.dataset import (
    draw_video,
    write_grounding_set,
)
from train.digits.questions import TYPES
from train.digits.render import render_second


@pytest.fixture(scope="module")
def grounding(tmp_path_factory):
    out = tmp_path_factory.mktemp("grounding")
    return write_grounding_set(out, split="test", seed=3, num_videos=3, num_frames=48)


def test_records_have_all_types_and_something_absent(grounding):
    records = json.loads(grounding.read_text())
    assert {record["type"] for record in records} == set(TYPES)
    for record in records:
        assert (grounding.parent / record["video"]).is_file()
        assert record["question"].startswith("<image>\n")
        assert (record["existence"] == "Yes") == (not record["frame_num"])
        assert record["clip_num"] == sorted({i // 5 for i in record["frame_num"]})
        assert len(record["frame_targets"]["frames"]) == 48
    assert any(record["existence"] == "Yes" for record in records)
    assert len({record["id"] for record in records}) == len(records)


def test_sampling_at_one_a_second_takes_the_labelled_frames(grounding):
    """The file's frames at the ordinals of rule A are the pictures that the labels count."""
    stream = [0, 2, 3, 48, 0]  # grounding, test, seed, length, first video
    world, _ = draw_video(np.random.default_rng(stream), split="test", num_frames=48)
    path = grounding.parent / "videos" / "00000.mp4"
    deadline = Deadline.after(60)
    with (
        MediaWorkers(limits=Limits()) as workers,
        VideoSource.from_path(path, limits=Limits()) as source,
        workers.open(source, deadline=deadline) as video,
    ):
        index = video.index
        indices = sample_frames(
            index.num_source_frames,
            index.average_fps,
            sampling="infer",
            sample_fps=1.0,
            num_frames=1024,
        )
        frames = video.decode(video.cut(indices))
    assert index.num_source_frames == 96
    assert indices.tolist() == list(range(0, 96, 2))
    for second in range(48):
        drawn = render_second(world, second).astype(np.float32)
        assert np.abs(frames[second] - drawn).mean() < 8  # lossy coding, half the colour


def test_the_same_seed_gives_the_same_files(grounding, tmp_path):
    again = write_grounding_set(tmp_path / "a", split="test", seed=3, num_videos=3)
    assert again.read_bytes() == grounding.read_bytes()
    one, other = (path.parent / "videos" / "00002.mp4" for path in (again, grounding))
    assert one.read_bytes() == other.read_bytes()
