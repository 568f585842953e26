"""Keep what a video cost: its index (probing) and its features (decoding and vision).

A request first asks for the index under the source's identity: the frames to sample follow from it.
Then it asks for the features under these frames. A hit on both touches no worker process and no
engine; an index alone saves probing a video whose question is refused. Whoever may not read a video
is refused before the cache is looked at: a key needs the identity of an open source.

The directory is trusted: a checksum finds damage, not forgery. It is made for its owner only. Each
process computes the checksum of an entry when it first reads it, and again when the file's inode,
size or times have changed. Damage that changes none of these (bits that rot on the disk or in the
page cache, stores to a mapping whose times were not updated yet) is found by the next process that
reads the entry, or after a restart.
"""

from python_backend.cache.config import CACHE_BYTES_VARIABLE, CACHE_DIR_VARIABLE, CacheConfig
from python_backend.cache.features import FeatureCache, Features, VideoCache
from python_backend.cache.keys import CacheKeys
from python_backend.cache.last_video import LastVideo

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
