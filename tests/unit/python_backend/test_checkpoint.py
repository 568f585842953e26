"""A pipeline of a checkpoint, which is opened as one of an engine directory is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from groundserve.checkpoint_place import SHIPPED_CHECKPOINT
from groundserve.errors import InvalidRequestError
from groundserve.limits import Limits
from groundserve.options import ScoreOptions
from python_backend.cache import CacheConfig, FeatureCache
from python_backend.meter import Counts
from python_backend.pipeline import Pipeline

QUERIES = ["when does a seven appear?", "describe the whole video"]
OPTIONS = ScoreOptions(num_frames=3)


@pytest.fixture(scope="module")
def torch_engines(engines_of):
    return engines_of(SHIPPED_CHECKPOINT, "torch")


def test_checkpoint_and_its_directory_are_one_pipeline_with_one_cache(
    torch_engines, clips, tmp_path
):
    meters = Counts(), Counts()
    caches = [FeatureCache(CacheConfig(directory=tmp_path), meter=meter) for meter in meters]
    limits = Limits(max_queries=2)
    with Pipeline.from_checkpoint(
        SHIPPED_CHECKPOINT, limits=limits, num_threads=2, cache=caches[0], meter=meters[0]
    ) as of_checkpoint:
        assert torch.get_num_threads() == 2
        with pytest.raises(InvalidRequestError, match=r"1\.\.2 questions, got 3"):
            of_checkpoint.score(clips["vfr"], ["When?"] * 3, OPTIONS)
        expected = of_checkpoint.score(clips["vfr"], QUERIES, OPTIONS)
    assert meters[0]["frames_decoded"] == meters[0]["vision_frames"] == 3
    assert meters[0]["cache_misses"] == 1
    with Pipeline.open(torch_engines, num_threads=2, cache=caches[1], meter=meters[1]) as opened:
        assert opened.manifest.model == of_checkpoint.manifest.model
        assert opened.manifest.encoder_identity == of_checkpoint.manifest.encoder_identity
        result = opened.score(clips["vfr"], QUERIES, OPTIONS)
    assert meters[1]["cache_hits"] == 1
    assert (expected.info.cache_hit, result.info.cache_hit) == (False, True)
    for one, other in zip(result.queries, expected.queries, strict=True):
        np.testing.assert_array_equal(one.frame_logits, other.frame_logits)
    assert result.info == replace(
        expected.info,
        cache_hit=True,
        engine=opened.manifest.identity,
        timing_ms=result.timing_ms,
    )
