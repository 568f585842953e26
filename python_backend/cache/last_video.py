"""The features of one video, in memory, for a caller that asks of it several times in a row."""

from __future__ import annotations

from groundserve.families.plans import VideoPlan
from groundserve.media import VideoIndex
from python_backend.cache.features import VideoCache
from python_backend.cache.keys import CacheKeys
from python_backend.encoded import EncodedVideo
from python_backend.meter import Meter
from python_backend.stopwatch import Stopwatch


class LastVideo:
    """Index and features of the video that was asked of last, where the encoder left them.

    For one thread at a time. Nothing is copied or hashed, and the next video takes their place.
    """

    def __init__(self, *, meter: Meter) -> None:
        """Begin with nothing.

        Args:
            meter: Where hits and misses are counted.
        """
        self._meter = meter
        self._kept: _KeptVideo | None = None

    def of(self, keys: CacheKeys, watch: Stopwatch) -> VideoCache:
        """See `Features.of`."""
        if self._kept is None or self._kept.keys != keys:
            self._kept = _KeptVideo(keys, self._meter)
        return self._kept


class _KeptVideo(VideoCache):
    def __init__(self, keys: CacheKeys, meter: Meter) -> None:
        self.keys = keys
        self._meter = meter
        self._index: VideoIndex | None = None
        # Of one plan; other sampling options take its place.
        self._features: tuple[str, EncodedVideo] | None = None

    def load_index(self) -> VideoIndex | None:
        return self._index

    def save_index(self, index: VideoIndex) -> None:
        self._index = index

    def load(self, plan: VideoPlan) -> EncodedVideo | None:
        if self._features is None or self._features[0] != self.keys.features(plan):
            return None
        self._meter.add("cache_hits")
        return self._features[1]

    def save(self, plan: VideoPlan, encoded: EncodedVideo) -> None:
        self._meter.add("cache_misses")
        self._features = (self.keys.features(plan), encoded)
