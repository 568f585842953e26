"""What tests of servers that answer in text share."""

from __future__ import annotations

from groundserve.answers import AnswerResult
from groundserve.serving import TritonServer
from tests.triton.serve import Server

# A box of an MP4 that readers skip: the same frames under a key of the cache that nobody knows.
FREE_BOX = b"\0\0\0\x08free"


def url(triton: TritonServer) -> str:
    return f"grpc://{triton.grpc_address}"


def growth(server: Server, before: dict[str, float]) -> dict[str, int]:
    """What has been counted, by the names of `CounterName`."""
    grown = server.growth(before)
    return {name.removesuffix("_total"): int(n) for name, n in grown.items() if "{" not in name}


def assert_same(result: AnswerResult, expected: AnswerResult) -> None:
    """All but what of each request differs."""
    said, wanted = (
        {**one.to_json(), "request_id": None, "timing_ms": None, "cache_hit": None}
        for one in (result, expected)
    )
    assert said == wanted
