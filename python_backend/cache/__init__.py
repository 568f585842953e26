"""Keep what a video cost: its index (probing) and its features (decoding and vision).

A request first asks for the index under the source's identity: the frames to sample follow from it.
Then it asks for the features under these frames. Whoever may not read a video is refused before
the cache is looked at: a key needs the identity of an open source.
"""

from python_backend.cache.config import CACHE_BYTES_VARIABLE, CACHE_DIR_VARIABLE, CacheConfig
from python_backend.cache.features import FeatureCache, Features, LastVideo, VideoCache
from python_backend.cache.keys import CacheKeys

__all__ = [
    "CACHE_BYTES_VARIABLE",
    "CACHE_DIR_VARIABLE",
    "CacheConfig",
    "CacheKeys",
    "FeatureCache",
    "Features",
    "LastVideo",
    "VideoCache",
]
