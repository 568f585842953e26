import numpy as np
import pytest

from groundserve.deadline import Deadline
from groundserve.families.videoitg import VideoITG
from groundserve.limits import Limits
from groundserve.options import ScoreOptions
from python_backend.cache import CacheKeys, LastVideo
from python_backend.encoded import EncodedVideo
from python_backend.meter import Counts
from python_backend.stopwatch import Stopwatch
from tests.unit.python_backend.manifest import INDEX, MANIFEST

LIMITS = Limits()
SOON = Deadline.after(60)
ENCODED = EncodedVideo(features=np.ones((4, 1, 2), np.float32), decoders=["pyav"])


def keys(identity="a") -> CacheKeys:
    return CacheKeys(identity=identity, manifest=MANIFEST, limits=LIMITS)


def plan(**options):
    asked = ScoreOptions(sampling="infer", sample_fps=25, **options)
    return VideoITG().plan(INDEX, asked, MANIFEST.model, LIMITS)


@pytest.fixture
def counts():
    return Counts()


@pytest.fixture
def cache(counts):
    return LastVideo(meter=counts)


def of(cache, identity="a"):
    return cache.of(keys(identity), Stopwatch())


def test_what_was_kept_is_found_as_it_is(cache, counts):
    assert of(cache).load_index() is None
    assert of(cache).load(plan()) is None
    of(cache).save_index(INDEX)
    with of(cache).locked(plan(), SOON):
        of(cache).save(plan(), ENCODED)
    assert of(cache).load_index() is INDEX
    assert of(cache).load(plan()) is ENCODED
    assert (counts["cache_hits"], counts["cache_misses"]) == (1, 1)


def test_the_next_video_takes_its_place(cache):
    of(cache).save_index(INDEX)
    of(cache).save(plan(), ENCODED)
    assert of(cache, "b").load_index() is None
    assert of(cache, "b").load(plan()) is None
    assert of(cache).load_index() is None
    assert of(cache).load(plan()) is None
