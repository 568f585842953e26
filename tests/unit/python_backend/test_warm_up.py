from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from groundserve.families.videoitg.spec import VideoITGSpec
from python_backend.warm_up import warm_up_encoder, warm_up_grounder
from tests.unit.python_backend.cache.test_keys import MANIFEST

RELEASED = VideoITGSpec(
    image_size=384,
    side=27,
    vision_hidden_size=1152,
    vision_token_num=16_384,
    max_tokens=20_480,
    pad_token_id=0,
)


def manifest(**changes):
    model = VideoITGSpec(**{**vars(RELEASED), **changes})
    return replace(MANIFEST, model=model)


class Recorder:
    """Both stages: remembers the shapes of what it is given."""

    def encode(self, frames, pooling):
        self.shapes = frames.shape, pooling.shape

    def ground(self, features, text_ids):
        assert text_ids.dtype == np.int64
        self.shapes = features.shape, text_ids.shape


def test_encoder_sees_a_full_chunk_of_the_default_video():
    stage = Recorder()
    warm_up_encoder(stage, manifest())
    assert stage.shapes == ((64, 384, 384, 3), (5, 27))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, ((512, 25, 1152), (100,)), id="released"),
        pytest.param({"max_tokens": None}, ((512, 25, 1152), (100,)), id="no_limit"),
        pytest.param({"max_tokens": 12_810}, ((512, 25, 1152), (10,)), id="little_room"),
        pytest.param({"vision_token_num": 64}, ((64, 1, 1152), (100,)), id="small_budget"),
    ],
)
def test_grounder_sees_the_default_video_and_a_usual_question(changes, expected):
    stage = Recorder()
    warm_up_grounder(stage, manifest(**changes))
    assert stage.shapes == expected
