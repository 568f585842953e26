"""Frames decoded for a hand-over: real clips, in the lines or in a folder of their own."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from groundserve.errors import MediaError
from groundserve.exports import ExportOptions, export
from groundserve.frames import read_frames
from tests.unit.exports.made import BIKES, write_batch

FRAMES = [3, 40]


def asked(video, **changed):
    row = BIKES | {"video": str(video), "selected_frames": FRAMES, "selected_seconds": [0.1, 1.6]}
    return row | {"frame_indices": [3, 30, 40, 75]} | changed


def opened(content):
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


@pytest.fixture
def scored(clips, tmp_path):
    """Two questions on one clip, named by its file alone."""
    return write_batch(
        tmp_path / "scored",
        asked(clips["bikes"].name),
        asked(clips["bikes"].name, id="8", query="When?"),
    )


def test_frames_are_those_of_the_video(clips, scored, tmp_path):
    out = tmp_path / "messages.jsonl"
    options = ExportOptions(media_root=clips["bikes"].parent, frames_side=160)
    export(scored, out, "openai", options)
    expected = read_frames(clips["bikes"], FRAMES, longest_side=160)
    for line in out.read_text("utf-8").splitlines():
        content = json.loads(line)["messages"][0]["content"]
        urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
        for url, frame in zip(urls, expected, strict=True):
            picture = opened(base64.b64decode(url.removeprefix("data:image/jpeg;base64,")))
            assert picture.shape == frame.shape
            assert max(picture.shape) == 160
            # JPEG loses a little; another frame of the clip differs by far more.
            assert np.abs(picture.astype(int) - frame).mean() < 6
    assert np.abs(expected[0].astype(int) - expected[1]).mean() > 12


def test_a_folder_is_made_and_found_again(clips, scored, tmp_path):
    frames = tmp_path / "frames"
    options = ExportOptions(media_root=clips["bikes"].parent, frames=frames, frames_side=64)
    export(scored, tmp_path / "llava.json", "llava", options)
    (item, other) = json.loads((tmp_path / "llava.json").read_text("utf-8"))
    assert item["image"] == other["image"]
    assert sorted(item["image"] + ["index.jsonl"]) == sorted(it.name for it in frames.iterdir())
    index = [json.loads(line) for line in (frames / "index.jsonl").read_text().splitlines()]
    assert [entry["frame_index"] for entry in index] == FRAMES
    pictures = [opened((frames / name).read_bytes()) for name in item["image"]]
    assert [max(picture.shape) for picture in pictures] == [64, 64]
    # The second export takes them from there: the video is not needed any more.
    again = ExportOptions(frames=frames, image_form="file")
    export(scored, tmp_path / "messages.jsonl", "openai", again)
    for name in item["image"]:
        assert (frames / name).as_uri() in (tmp_path / "messages.jsonl").read_text("utf-8")


def test_a_video_that_cannot_be_read_leaves_nothing(clips, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    run = write_batch(tmp_path / "run", asked(clips["bikes"]), asked(broken, id="9"))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(MediaError, match=r"broken\.mp4: "):
        export(run, tmp_path / "out.json", "llava", ExportOptions(frames=tmp_path / "frames"))
    assert sorted(tmp_path.iterdir()) == before
