"""The features of a process's earlier videos, and what one request sees of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np

from groundserve.errors import MediaError
from groundserve.families.plans import VideoPlan
from groundserve.media import VideoIndex
from groundserve.runtime.deadline import Deadline
from python_backend.arrays import to_host
from python_backend.cache.config import CacheConfig
from python_backend.cache.entry import Entry
from python_backend.cache.keys import CacheKeys
from python_backend.cache.store import EntryStore
from python_backend.encoded import EncodedVideo
from python_backend.meter import Meter
from python_backend.stopwatch import Stopwatch


class VideoCache:
    """What one request finds of its video; this one keeps nothing."""

    def load_index(self) -> VideoIndex | None:
        """Return what probing told, None where it is not known."""
        return None

    def save_index(self, index: VideoIndex) -> None:
        """Keep what probing told."""

    def load(self, plan: VideoPlan) -> EncodedVideo | None:
        """Return the features of a plan, None where they are not known."""
        return None

    def save(self, plan: VideoPlan, encoded: EncodedVideo) -> None:
        """Keep the features of a plan."""

    def locked(self, plan: VideoPlan, deadline: Deadline) -> AbstractContextManager[None]:
        """Be the only one, of all that share the cache, who computes these features."""
        return nullcontext()


class FeatureCache:
    """Features and indexes of any videos in one directory, which others may share."""

    def __init__(self, config: CacheConfig, *, meter: Meter) -> None:
        """Open the directory; what its disk does later is counted and logged, never an error."""
        config.prepare()
        self._store = EntryStore(config.directory, max_bytes=config.max_bytes, meter=meter)
        self._meter = meter

    def of(self, keys: CacheKeys, watch: Stopwatch) -> VideoCache:
        """Return what is kept of one video; time is booked under "cache" and "wait"."""
        return _StoredVideo(self._store, keys, watch, self._meter)


class _StoredVideo(VideoCache):
    def __init__(self, store: EntryStore, keys: CacheKeys, watch: Stopwatch, meter: Meter) -> None:
        self._store = store
        self._keys = keys
        self._watch = watch
        self._meter = meter

    def load_index(self) -> VideoIndex | None:
        with self._watch.measure("cache"):
            entry = self._store.read(key := self._keys.index())
            if entry is None:
                return None
            values: dict[str, Any] = {**entry.fields, **entry.arrays}
            try:
                return VideoIndex(**values)
            # TypeError: fields that a `VideoIndex` does not have.
            except (TypeError, MediaError):
                self._store.discard(key, reason="it is not the index of a video")
                return None

    def save_index(self, index: VideoIndex) -> None:
        with self._watch.measure("cache"):
            known = vars(index).items()
            arrays = {name: value for name, value in known if isinstance(value, np.ndarray)}
            fields = {name: value for name, value in known if name not in arrays}
            self._store.write(self._keys.index(), Entry(fields=fields, arrays=arrays))

    def load(self, plan: VideoPlan) -> EncodedVideo | None:
        with self._watch.measure("cache"):
            entry = self._store.read(self._keys.features(plan))
        if entry is None:
            return None
        self._meter.add("cache_hits")
        return EncodedVideo(
            features=entry.arrays["features"], decoders=list(entry.fields["decoders"])
        )

    def save(self, plan: VideoPlan, encoded: EncodedVideo) -> None:
        self._meter.add("cache_misses")
        with self._watch.measure("cache"):
            arrays = {"features": to_host(encoded.features)}
            entry = Entry(fields={"decoders": encoded.decoders}, arrays=arrays)
            self._store.write(self._keys.features(plan), entry)

    @contextmanager
    def locked(self, plan: VideoPlan, deadline: Deadline) -> Iterator[None]:
        # Waiting for the lock is booked as "wait", the work under it is not.
        with ExitStack() as stack:
            with self._watch.measure("wait"):
                key = self._keys.features(plan)
                stack.enter_context(self._store.locked(key, deadline=deadline))
            yield


class LastVideo:
    """Index and features of the video that was asked of last, where the encoder left them.

    For one thread at a time. Nothing is copied or hashed, and the next video takes their place.
    """

    def __init__(self, *, meter: Meter) -> None:
        self._meter = meter
        self._kept: _KeptVideo | None = None

    def of(self, keys: CacheKeys, watch: Stopwatch) -> VideoCache:
        """Return what is kept of one video."""
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


Features = FeatureCache | LastVideo
"""Where features of earlier videos are kept."""
