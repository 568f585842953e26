from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from groundserve.errors import InvalidRequestError
from groundserve.families.videoitg import FAMILY
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.embeddings import write_embeddings
from groundserve.families.videoitg.spec import VideoITGSpec
from groundserve.limits import Limits
from tests.reference import SET_1

SPEC = VideoITGSpec(
    image_size=112,
    side=8,
    vision_hidden_size=48,
    vision_token_num=4096,
    max_tokens=None,
    pad_token_id=0,
)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((0, 1, 48), r"T of FEATURES \(T, g\*g, D_v\) must be 1 to 1024, got 0"),
        ((1025, 1, 48), r"T of FEATURES \(T, g\*g, D_v\) must be 1 to 1024, got 1025"),
        ((3, 3, 48), "must have g from 1 to 8, got 3 tokens a frame"),
        ((3, 81, 48), "must have g from 1 to 8, got 81 tokens a frame"),
        ((65, 64, 48), "must have at most 4096 visual tokens, got 65 x 64"),
    ],
)
def test_features_that_the_vision_stage_never_gives_are_refused(shape, message):
    with pytest.raises(InvalidRequestError, match=message):
        FAMILY.check_features(shape, SPEC, Limits())


def test_features_of_the_vision_stage_are_taken_up_to_a_servers_ceiling():
    FAMILY.check_features((64, 64, 48), SPEC)
    FAMILY.check_features((1024, 4, 48), SPEC)
    with pytest.raises(InvalidRequestError, match="must be 1 to 63, got 64"):
        FAMILY.check_features((64, 64, 48), SPEC, replace(Limits(), max_num_frames=63))


def test_front_is_the_models_own_projector_and_table(tmp_path):
    model = Checkpoint.open(SET_1 / "videoitg-tiny").load_grounding()
    write_embeddings(model, path := tmp_path / "embeddings.safetensors")
    projector, embed_tokens = FAMILY.read_front(path, device="cpu")
    features = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 4, 48))).float()
    ids = torch.arange(9)
    assert torch.equal(projector(features), model.projector(features))
    assert torch.equal(embed_tokens(ids), model.decoder.embed_tokens(ids))
