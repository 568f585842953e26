from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from groundserve.engines.manifest import Manifest
from groundserve.errors import (
    GroundserveError,
    MediaError,
)
from groundserve.families import get_family
from groundserve.families.plans import SeenVideo
from groundserve.families.vtimellm import VTimeLLMSpec
from groundserve.limits import Limits
from groundserve.media import Segments, VideoSource
from groundserve.options import AnswerOptions, ScoreOptions
from groundserve.runtime.deadline import Deadline
from python_backend.cache import CacheConfig, CacheKeys, FeatureCache
from python_backend.cache.entry import Entry
from python_backend.cache.store import EntryStore
from python_backend.decode import DecodedFrames
from python_backend.features import FeatureExtractor, VideoFeatures
from python_backend.meter import Counts
from tests.unit.python_backend.manifest import INDEX, MANIFEST

OPTIONS = ScoreOptions(sampling="infer", sample_fps=25)
VIDEO = b"a video of four frames"


class FakeWorkers:
    """A cut hands its ordinals to the decoder."""

    index = INDEX

    @contextmanager
    def open(self, source, *, deadline):
        yield self

    def cut(self, frame_indices, *, max_bytes):
        # Of frames as decoded the size is looked at.
        return SimpleNamespace(
            frame_indices=frame_indices, num_frames=len(frame_indices), stream=INDEX
        )


class Stages:
    """Fake stages around an extractor: a frame's features are its ordinal."""

    def __init__(self, cache_dir: Path):
        self.workers = FakeWorkers()
        self.counts = Counts()
        cache = FeatureCache(CacheConfig(directory=cache_dir), meter=self.counts)
        self.extractor = FeatureExtractor(
            workers=self.workers,
            manifest=MANIFEST,
            limits=Limits(),
            cache=cache,
            meter=self.counts,
        )
        self.decode_error: Exception | None = None

    def extract(self, *, options=OPTIONS) -> VideoFeatures:
        with VideoSource.from_bytes(VIDEO, limits=Limits()) as source:
            return self.extractor.extract(
                source,
                options,
                asked=None,
                decode=self.decode,
                encode=self.encode,
                deadline=Deadline.after(10.0),
            )

    def decode(self, segments: Segments, shown):
        frame_indices = segments.frame_indices
        if self.decode_error is not None:
            raise self.decode_error
        frames = np.zeros((len(frame_indices), 1, 1, 3), np.uint8)
        frames[:, 0, 0, 0] = frame_indices
        return DecodedFrames((frames,), "fake" if frame_indices[0] == 0 else "other")

    def encode(self, frames, pooling):
        ordinals = frames[:, 0, 0, 0].astype(np.float32)
        num_tokens = pooling.shape[1] ** 2
        return np.broadcast_to(ordinals[:, None, None], (len(frames), num_tokens, 4))


def test_features_that_are_not_finite_are_the_encoders_fault_and_not_kept(tmp_path):
    stages = Stages(tmp_path)
    stages.encode = lambda *given: np.nan * Stages.encode(stages, *given)
    with pytest.raises(GroundserveError, match="the encoder returned features that are not fin"):
        stages.extract()
    del stages.encode
    assert not stages.extract().info.cache_hit


def test_failed_request_lets_the_next_one_try(tmp_path):
    stages = Stages(tmp_path)
    stages.decode_error = MediaError("frame 2 does not decode")
    with pytest.raises(MediaError):
        stages.extract()
    stages.decode_error = None
    assert not stages.extract().info.cache_hit


@pytest.mark.parametrize("fields", [{"unknown": 1}, {**vars(INDEX), "average_fps": 0.0}])
def test_sound_entry_that_is_no_index_is_removed(tmp_path, fields):
    arrays = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
    rest = {name: value for name, value in fields.items() if name not in arrays}
    with VideoSource.from_bytes(VIDEO, limits=Limits()) as source:
        keys = CacheKeys(identity=source.identity, manifest=MANIFEST, limits=Limits())
    store = EntryStore(tmp_path, max_bytes=10**6, meter=Counts())
    store.write(keys.index(), Entry(fields=rest, arrays=arrays))
    stages = Stages(tmp_path)
    stages.extract()
    assert stages.counts["cache_corrupted"] == 1
    assert stages.extract().info.cache_hit


@pytest.fixture
def text_stages(monkeypatch, tmp_path):
    """A head of text around the same stages: 100 frames of a video of four, as decoded."""
    monkeypatch.setattr(Manifest, "seam", property(lambda manifest: get_family(manifest.family)))
    stages = Stages(tmp_path)
    spec = VTimeLLMSpec(feature_width=4)
    manifest = replace(MANIFEST, family="vtimellm", model=spec)
    stages.extractor = replace(stages.extractor, manifest=manifest)
    monkeypatch.setattr(stages, "encode", lambda frames: frames[:, 0, :1].astype(np.float32))
    return stages


def test_what_a_head_of_text_must_know_comes_with_the_features(text_stages):
    options = AnswerOptions(clip_seconds=(0.04, 5.0))
    for _ in range(2):  # computed, then from the cache
        seen = text_stages.extract(options=options).seen
        assert seen == SeenVideo(
            duration_seconds=0.16,
            num_visual_tokens=100,
            time_range_seconds=(0.04, 0.16),
            model_seconds=None,
        )
    assert text_stages.counts["cache_hits"] == 1


def test_frames_as_decoded_far_longer_than_wide_are_refused(text_stages):
    text_stages.workers.index = replace(INDEX, width=8192, height=100)
    with pytest.raises(MediaError, match="at most 64 times the shorter one, got 8192 x 100"):
        text_stages.extract(options=AnswerOptions())
    assert text_stages.counts["frames_decoded"] == 0
