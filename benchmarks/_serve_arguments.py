"""The command line of `benchmarks.serve`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks._command import existing_file, positive
from benchmarks._senders import SCHEMES, WAYS

_OPTIONS = '{"num_frames": 10, "sampling": "infer", "sample_fps": 5}'


def parse_arguments(description: str) -> argparse.Namespace:
    """Read the command line.

    Returns:
        One attribute an option; `url` holds pairs of a scheme and HOST:PORT.
    """
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add(
        "videos",
        type=existing_file,
        nargs="*",
        metavar="VIDEO",
        help="in turn; a test pattern by default",
    )
    add("--options", default=_OPTIONS, help="JSON of ScoreOptions (default: %(default)s)")
    add("--by-uri", action="store_true", help="the server reads the files itself")
    served = parser.add_mutually_exclusive_group()
    served.add_argument("--engines", type=Path, help="serve this engine directory")
    served.add_argument(
        "--url",
        type=_scheme_and_address,
        action="append",
        default=[],
        help="of a running server, grpc://HOST:PORT or http://HOST:PORT; both for all ways",
    )
    add("--server-pid", type=int, help="root of its processes, for processor time and memory")
    add("--ways", type=_list(str), default=["grpc", "http"], help=f"of {','.join(WAYS)}")
    add("--cached-shares", type=_list(float), default=[1.0, 0.5, 0.0], help="of the requests")
    add("--clients", type=_list(positive), default=[1, 2, 4, 8, 16], help="of the closed loops")
    add("--shares", type=_list(float), default=[0.5, 0.8, 0.95, 1.2, 2.0], help="of capacity")
    add("--rates", type=_list(float), default=[], help="of further open loops, a second")
    add("--window-seconds", type=float, default=2.0)
    add("--windows", type=positive, default=6, help="most of a closed loop; all of an open one")
    add("--warm-up-seconds", type=float, default=1.0, help="of each load")
    add("--stability", type=float, default=0.1, help="of the last three windows, 0.1 is 10%%")
    add("--slo-seconds", type=float, default=2.0, help="an answer within this is good")
    add("--timeout-seconds", type=float, default=10.0, help="of a request")
    add("--seed", type=int, default=0, help="of arrivals and mixes")
    add("--perf-analyzer", metavar="PROGRAM", help="run it beside the closed loops")
    add("--perf-analyzer-input", type=Path, metavar="FILE", help="write its --input-data")
    add("--perf-analyzer-entries", type=int, default=16, help="requests in FILE")
    add("--out", type=Path)
    args = parser.parse_args()
    if unknown := set(args.ways) - set(WAYS):
        parser.error(f"--ways must be of {', '.join(WAYS)}, got {', '.join(sorted(unknown))}")
    if args.url and (missing := {SCHEMES[way] for way in args.ways} - dict(args.url).keys()):
        parser.error(f"these --ways need a --url of the scheme {' and '.join(sorted(missing))}")
    if not args.ways or not args.cached_shares:
        parser.error("--ways and --cached-shares must name at least one each")
    if not all(0 <= share <= 1 for share in args.cached_shares):
        parser.error(f"--cached-shares must be in [0, 1], got {_text(args.cached_shares)}")
    for name in "shares", "rates":
        if not all(0 < rate < math.inf for rate in getattr(args, name)):
            parser.error(f"--{name} must be above 0 and finite, got {_text(getattr(args, name))}")
    for name in "window_seconds", "timeout_seconds", "slo_seconds":
        if not 0 < getattr(args, name) < math.inf:
            option = name.replace("_", "-")
            parser.error(f"--{option} must be above 0 and finite, got {getattr(args, name)}")
    if args.by_uri and (not args.videos or min(args.cached_shares) < 1):
        parser.error("--by-uri needs a VIDEO and --cached-shares 1: a file stays as it is")
    return args


def _list(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    def parse(text: str) -> list[Any]:
        return [kind(one) for one in text.split(",") if one]

    parse.__name__ = f"list of {kind.__name__}"  # argparse's name for it in an error
    return parse


def _text(values: list[Any]) -> str:
    return ",".join(map(str, values))


def _scheme_and_address(url: str) -> tuple[str, str]:
    scheme, separator, address = url.partition("://")
    if scheme not in SCHEMES.values() or not separator or not address:
        raise argparse.ArgumentTypeError(
            f"must be grpc://HOST:PORT or http://HOST:PORT, got {url!r}"
        )
    return scheme, address
