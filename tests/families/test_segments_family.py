"""Two streams and inputs of units: what one process computes, and what a tritonserver answers.

The family lies in `tests/families/segments`; what it computes of a video is exact.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from groundserve import Client
from groundserve.options import AnswerOptions
from tests.families import segments_program
from tests.families.tree import copy_with_family, interpreter_of
from tests.media_assets import LONG_GOP, Asset, asset_maker
from tests.support.answer_cases import CHECKPOINTS, MODELS
from tests.triton.program import serving

NUM_UNITS, NUM_FRAMES, KEY, CLIP_SIZE, KEY_SIZE, SCALE = 12, 8, 4, 8, 16, 0.5
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-x264-params", "keyint=600:scenecut=0")
ASSETS = (
    LONG_GOP,
    # One key frame: 1 and 64 frames are decoded, of which the one is no unit's fifth.
    Asset(name="of_65.mp4", arguments=(*X264, "-frames:v", "65"), num_frames=65),
    Asset(name="of_50.mp4", arguments=(*X264, "-frames:v", "50"), num_frames=50),
)
NAMES = ["long_gop", "of_65", "of_50"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> dict[str, Path]:
    make = asset_maker(tmp_path_factory.mktemp("media"))
    return {path.stem: path for path in map(make, ASSETS)}


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    tree = copy_with_family(tmp_path_factory.mktemp("tree"), "segments")
    return interpreter_of(tree, tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("segments")


@pytest.fixture(scope="module")
def said(folder, python, videos) -> dict:
    """What one process built, computed and counted; the features lie in the folder."""
    adapters = ",".join(map(str, next(iter(MODELS.values()))["adapter"]))
    command = [python, "-I", segments_program.__file__, folder, CHECKPOINTS, adapters]
    run = subprocess.run([*command, *videos.values()], capture_output=True, text=True, cwd=folder)
    assert run.returncode == 0, run.stderr
    return json.loads((folder / "said.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def served(said, python, folder, tmp_path_factory):
    logs = tmp_path_factory.mktemp("logs")
    options = ["--cache-dir", logs / "cache"]
    with serving(folder / "cpu", logs, options=options, python=python) as started:
        yield started


def middle(image: Image.Image) -> NDArray[np.uint8]:
    """Shorter side to 8, then the middle."""
    short = min(image.size)
    width, height = (CLIP_SIZE * side // short for side in image.size)
    left, top = round((width - CLIP_SIZE) / 2), round((height - CLIP_SIZE) / 2)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + CLIP_SIZE, top + CLIP_SIZE)))


def expected_features(video: Path) -> NDArray[np.float32]:
    """From the file by PyAV, Pillow and numpy alone."""
    with av.open(str(video)) as container:
        images = [frame.to_image() for frame in container.decode(video=0)]
    shown = np.minimum(np.arange(NUM_UNITS * NUM_FRAMES), len(images) - 1)
    shown = shown.reshape(NUM_UNITS, NUM_FRAMES)
    features = np.zeros((NUM_UNITS, 2, NUM_FRAMES))
    num_told = NUM_FRAMES if len(images) >= shown.size else 5
    for unit, ordinals in enumerate(shown):
        features[unit, 0] = [middle(images[i])[..., 0].mean() for i in ordinals]
        key = images[ordinals[KEY]].resize((KEY_SIZE, KEY_SIZE), Image.Resampling.BICUBIC)
        features[unit, 1, :3] = np.asarray(key).mean(axis=(0, 1))
        features[unit, 1, 3] = SCALE * ordinals[:num_told].sum()
    return features.astype(np.float32)


@pytest.mark.parametrize("profile", ["cpu", "torch"])
@pytest.mark.parametrize("name", NAMES)
def test_one_process_computes_what_numpy_does(said, folder, videos, name, profile):
    features = np.load(folder / f"{name}.npz")[profile]
    np.testing.assert_array_equal(features, expected_features(videos[name]))


@pytest.mark.parametrize("profile", ["cpu", "torch"])
@pytest.mark.parametrize(("name", "num_frames"), [("long_gop", 96), ("of_65", 65), ("of_50", 50)])
def test_each_frame_is_decoded_once_and_made_for_the_streams_that_show_it(
    said, name, num_frames, profile
):
    num_keys = len({min(8 * unit + KEY, num_frames - 1) for unit in range(NUM_UNITS)})
    assert said["videos"][name][profile] == {
        "frames_decoded": num_frames,
        "made": num_frames + num_keys,
        "vision_frames": NUM_UNITS,
        # Units of eight frames, of which 64 are encoded at once.
        "vision_passes": 2,
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_server_answers_the_same_and_caches(said, served, videos, name):
    options = AnswerOptions(task="chat", max_new_tokens=4)
    with Client(served.addresses["grpc"]) as client:
        first, second = (client.ask(videos[name], "What?", options) for _ in range(2))
    for result in (first, second):
        assert result.answers[0].token_ids.tolist() == said["answers"][name]
        assert len(result.frame_indices) == NUM_UNITS * NUM_FRAMES
    assert (first.info.cache_hit, second.info.cache_hit) == (False, True)
    assert second.info.engine["family"] == "segments"
