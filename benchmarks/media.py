"""Make the videos that other benchmarks measure with.

    python -m benchmarks.media --out DIR [--only vs_reference|decode|all]

What is there stays. All of it takes some 2 GiB, and half an hour of two cores.
"""

from __future__ import annotations

import argparse
import time
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks._media import make_video

VS_REFERENCE: tuple[dict[str, Any], ...] = (
    {"codec": "h264", "height": 720, "gop": 12, "seconds": 600},
    {"codec": "h264", "height": 720, "gop": 250, "seconds": 600},
    {"codec": "vp9", "height": 720, "gop": 250, "seconds": 600},
)
"""The arguments of `make_video`, for each video of `benchmarks.vs_reference`."""
_LENGTHS = ((120, ("h264", "hevc", "vp9", "av1")), (600, ("h264",)), (7200, ("h264",)))
DECODE: tuple[dict[str, Any], ...] = tuple(
    {"codec": codec, "height": height, "gop": gop, "seconds": seconds}
    for seconds, codecs in _LENGTHS
    for codec, height, gop in product(codecs, (480, 1080), (12, 250))
)
"""The arguments of `make_video`, for each video of `benchmarks.decode`."""


def main() -> None:
    """Make them one after another and print each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder that keeps them")
    parser.add_argument("--only", choices=("vs_reference", "decode", "all"), default="all")
    args = parser.parse_args()
    sets = {"vs_reference": VS_REFERENCE, "decode": DECODE, "all": VS_REFERENCE + DECODE}
    for video in sets[args.only]:
        started = time.perf_counter()
        path = make_video(args.out, **video)
        size, seconds = path.stat().st_size / 1024**2, time.perf_counter() - started
        print(f"{path}  {size:.1f} MiB  {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
