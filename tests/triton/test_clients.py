"""The load script for a server that runs."""

from __future__ import annotations

from benchmarks.clients import measure
from groundserve import Client, ScoreOptions


def test_every_request_is_answered_or_named(server, video_root):
    good = {"video": (video_root / "carphone.mp4").read_bytes()}
    uri = {"video_uri": (video_root / "carphone.mp4").as_uri()}
    bad = {"video": b"no video"}
    with Client(f"grpc://{server.grpc_address}") as client:
        row = measure(
            client, [good, bad, uri], ScoreOptions(num_frames=4), num_clients=2, num_requests=6
        )
    assert row["outcomes"] == {"ok": 4, "MediaError": 2}
    assert row["seconds"]["count"] == 4
    assert {"decode", "encode", "ground"} <= set(row["median_ms_by_stage"])
    assert row["answers_per_second"] > 0
