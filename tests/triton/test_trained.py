"""What training writes is what Triton serves: the same logits as the trainer's own evaluation."""

import json
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch

from groundserve import Client, ScoreOptions
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from tests.triton.serve import serve
from train.data import TrainingData
from train.digits.dataset import write_grounding_set
from train.families.videoitg.digits.recipe import Recipe, stage_configs
from train.families.videoitg.family import open_initial
from train.families.videoitg.models import encode_frames

# Two ways to decode, resize, encode and pool, float32 on both sides; the bar is the contract's.
TOLERANCE = 5e-4


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    out = tmp_path_factory.mktemp("digits")
    return write_grounding_set(out, split="test", seed=5, num_videos=2)


def trainer_logits(records, out):
    """Return question -> logits of the model under training, as its validation computes them."""
    last = stage_configs(Recipe(seed=1), out)[-1]
    config = replace(
        last,
        init=SHIPPED_CHECKPOINT,
        vision_tower=None,
        auxiliary_weight=0.0,
        data=replace(last.data, records=records, media_root=records.parent),
    )
    initial = open_initial(config, num_auxiliary=0)
    found = []
    with (
        TrainingData(
            config.data,
            stage="grounding",
            samples=initial.samples(config),
            seed=0,
        ) as data,
        closing(data.readings(range(len(data)))) as readings,
        torch.no_grad(),
    ):
        for example in (reading.example for reading in readings):
            losses = initial.model.eval()([example], encode_frames(initial.vision, [example]))
            found.append([logits.numpy() for logits in losses.frame_logits])
    return found


def test_triton_gives_the_trainers_logits(records, engines_of, tmp_path):
    by_video = {}
    for record in json.loads(records.read_text()):
        question = record["question"].removeprefix("<image>\n")
        by_video.setdefault(record["video"], []).append(question)
    expected = trainer_logits(records, tmp_path / "runs")
    options = ScoreOptions(sampling="infer", sample_fps=1.0)
    with (
        serve(engines_of(SHIPPED_CHECKPOINT, "cpu"), tmp_path / "triton.log") as server,
        Client(f"grpc://{server.triton.grpc_address}") as client,
    ):
        for (video, questions), logits in zip(by_video.items(), expected, strict=True):
            result = client.score(records.parent / video, questions, options)
            assert result.grid == 3
            for query, own in zip(result.queries, logits, strict=True):
                assert query.frame_logits.shape == own.shape == (48,)
                np.testing.assert_allclose(query.frame_logits, own, rtol=0, atol=TOLERANCE)
