from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from groundserve.families import get_text_family
from groundserve.families.plans import VISUAL_TOKEN_ID, Prompt
from groundserve.families.videoitg.spec import VideoITGSpec
from groundserve.families.vtimellm.spec import VTimeLLMSpec
from groundserve.limits import Limits
from python_backend.heads import TextHead
from python_backend.meter import Counts
from python_backend.stages import Generator
from python_backend.warm_up import warm_up_encoder, warm_up_grounder, warm_up_text_head
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
    assert stage.shapes == ((64, 384, 384, 3), (1, 5, 27))


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


class Decoder:
    """Decoder, front and tokenizer of a head of text: remembers the passes; no token ends it."""

    end_ids = frozenset({-1})

    def __init__(self):
        self.passes = []
        self.num_positions = 0

    def prompt(self, query, options, seen):
        return Prompt(token_ids=np.array([1, VISUAL_TOKEN_ID, 2, 3]), num_prefix=2)

    def text(self, token_ids):
        return ""

    def embed_video(self, features, inputs):
        self.features = features.shape
        return np.zeros((len(features), 8), np.float32)

    def embed_text(self, token_ids):
        return np.zeros((len(token_ids), 8), np.float32)

    def begin(self, max_positions):
        return self

    def crop(self, num_positions):
        self.num_positions = num_positions

    def regime(self, num_positions):
        return 0

    def extend(self, embeddings, past, *, regime):
        self.passes.append(len(embeddings))
        self.num_positions += len(embeddings)
        return np.zeros(4, np.float32)


def test_text_head_sees_the_default_video_a_question_and_a_token_and_counts_nothing():
    stage, meter = Decoder(), Counts()
    model = VTimeLLMSpec(feature_width=16)
    head = TextHead(
        generator=Generator(front=stage, decoder=stage),
        tokenizer=stage,
        family=get_text_family("vtimellm"),
        model=model,
        limits=Limits(),
        meter=meter,
    )
    warm_up_text_head(head, replace(MANIFEST, family="vtimellm", model=model))
    assert stage.features == (100, 1, 16)
    # The prefix with the video's block, the question, the first token.
    assert stage.passes == [101, 2, 1]
    assert meter["generated_tokens"] == meter["prefix_tokens"] == 0
