from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from groundserve.families.plans import FrameStream, VideoPlan
from groundserve.families.videoitg import VideoITG
from groundserve.families.videoitg.grid import pooling_weights
from groundserve.limits import Limits
from python_backend.cache import CacheKeys, keys
from tests.unit.python_backend.manifest import INDEX, MANIFEST

WEIGHTS = pooling_weights(2, side=8)
TINY = np.spacing(WEIGHTS)
KEYS = CacheKeys(identity="sha256:00", manifest=MANIFEST, limits=Limits())


def plan(*frame_indices: int, grid: int = 2) -> VideoPlan:
    return VideoPlan(
        num_frames=512,
        index=INDEX,
        frame_indices=np.array(frame_indices),
        units=np.arange(len(frame_indices))[:, np.newaxis],
        num_visual_tokens=len(frame_indices) * grid**2,
        inputs={"POOL": pooling_weights(grid, side=8)},
    )


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(plan(0, 3), id="frames"),
        pytest.param(plan(0), id="number_of_frames"),
        pytest.param(plan(0, 2, grid=1), id="grid"),
        pytest.param(replace(plan(0, 2), units=np.array([[0], [1], [1]])), id="repeat"),
        pytest.param(replace(plan(0, 2), units=np.array([[0, 1]])), id="one_segment"),
        pytest.param(replace(plan(0, 2), units=np.array([[0], [0], [1]])), id="units"),
        pytest.param(replace(plan(0, 2), inputs={"POOL": WEIGHTS + TINY}), id="last_bit"),
        pytest.param(replace(plan(0, 2), inputs={"POOL": WEIGHTS.reshape(8, 2)}), id="shape"),
        pytest.param(replace(plan(0, 2), inputs={"POOL": WEIGHTS.view(np.int32)}), id="dtype"),
        pytest.param(replace(plan(0, 2), inputs={"OTHER": WEIGHTS}), id="name"),
    ],
)
def test_another_plan_has_other_features(other):
    assert KEYS.features(other) != KEYS.features(plan(0, 2))


def test_other_streams_are_other_features(monkeypatch):
    before = KEYS.features(plan(0))
    for stream in (FrameStream(name="PIXELS", size=96), FrameStream(name="OTHER", size=112)):
        monkeypatch.setattr(VideoITG, "streams", lambda self, spec, stream=stream: (stream,))
        assert KEYS.features(plan(0)) != before


@pytest.mark.parametrize(
    "manifest",
    [
        replace(MANIFEST, files={"vision_encoder.onnx": "2"}),
        replace(MANIFEST, precision="fp16"),
        replace(MANIFEST, precision="int8"),
        replace(MANIFEST, profile="torch"),
        replace(MANIFEST, files={}),
    ],
)
def test_other_encoder_is_other_features(manifest):
    assert replace(KEYS, manifest=manifest).features(plan(0)) != KEYS.features(plan(0))


def test_other_grounding_engine_is_the_same_features():
    manifest = replace(MANIFEST, files={"vision_encoder.onnx": "1", "grounding.onnx": "2"})
    assert replace(KEYS, manifest=manifest).features(plan(0)) == KEYS.features(plan(0))


def test_other_video_has_other_keys():
    other = replace(KEYS, identity="sha256:01")
    assert other.index() != KEYS.index()
    assert other.features(plan(0)) != KEYS.features(plan(0))


def test_other_decoder_has_other_keys(monkeypatch):
    before = KEYS.index(), KEYS.features(plan(0))
    monkeypatch.setattr(keys, "decoder_versions", lambda: ("av 99",))
    assert KEYS.index() != before[0]
    assert KEYS.features(plan(0)) != before[1]


def test_versions_name_the_ffmpeg_build_without_importing_it():
    code = (
        "import sys; from python_backend.cache.keys import decoder_versions as v; print(*v());"
        "assert not {'av', 'PIL'} & set(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in ("groundserve ", "av ", "pillow ", "libavcodec-", "libswscale-"):
        assert name in run.stdout
