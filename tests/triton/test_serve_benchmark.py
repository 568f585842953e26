"""The load runner on a real server with a cache."""

from __future__ import annotations

import json
import re
import sys

import pytest

from benchmarks import serve
from benchmarks._processes import FIRST_REQUESTS
from benchmarks._server_view import ServerView, milliseconds_by_model


@pytest.fixture
def arguments(cached, monkeypatch, tmp_path):
    triton = cached.triton
    words = [
        *("--url", f"grpc://{triton.grpc_address}", "--url", f"http://{triton.http_address}"),
        *("--server-pid", str(triton.pid), "--ways", "grpc,http,client"),
        *("--cached-shares", "0.5", "--clients", "2", "--shares", "", "--rates", "40"),
        *("--window-seconds", "0.2", "--windows", "1", "--warm-up-seconds", "0"),
        *("--perf-analyzer-input", str(tmp_path / "input.json")),
        *("--out", str(tmp_path / "report.json")),
    ]
    monkeypatch.setattr(sys, "argv", ["benchmarks/serve.py", *words])
    monkeypatch.setattr(serve, "SETTLE_SECONDS", 0.0)
    # 10 seconds of all cores, which no assertion needs.
    monkeypatch.setattr(serve, "measure_peaks", lambda: None)


def test_benchmarks_warm_every_instance(engine_dirs):
    configs = (engine_dirs["cpu"] / "model_repository").glob("*/config.pbtxt")
    counts = [
        int(found) for one in configs for found in re.findall(r"count: (\d+)", one.read_text())
    ]
    assert max(counts) == FIRST_REQUESTS


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_statistics_of_one_request(scheme, cached, clips):
    address = cached.triton.grpc_address if scheme == "grpc" else cached.triton.http_address
    view = ServerView(scheme, address, cached.triton.pid)
    first = view.read()
    cached.ask(clips["carphone_pristine"], "When?", num_frames=4)
    last = view.read()
    view.close()
    found = milliseconds_by_model(first, last)
    assert {"videoitg", "video_features", "grounding", "frame_selector"} <= set(found)
    for name in ("videoitg", "grounding"):
        assert found[name]["requests"] == 1
        assert found[name]["failed"] == 0
        assert found[name]["compute_infer_ms"] > 0
    assert last.server_cpu["model grounding"] >= first.server_cpu["model grounding"] > 0
    assert last.at > first.at


def test_every_way_of_asking(arguments, tmp_path, capsys):
    serve.main()
    report = json.loads((tmp_path / "report.json").read_text())
    assert [one["codec"] for one in report["inputs"]] == ["h264"]
    loads = report["results"]["loads"]
    assert list(loads) == ["grpc, 50% cached", "http, 50% cached", "client, 50% cached"]
    for way in loads.values():
        closed, opened = way["closed_loop"]["2 clients"], way["open_loop"]["40 per second"]
        assert set(closed["outcomes"]) <= {"ok"}  # none where one took the whole window
        assert set(opened["outcomes"]) == {"ok"}
        for load in (closed, opened):
            for kind, share in (("cached", 1.0), ("cold", 0.0)):
                if described := load["by_kind"][kind]:
                    assert described["cache_hit_share"] == share
            assert load["peak_memory_so_far"]["sum_mib"] > 0
    assert "--request-distribution=poisson" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "input.json").read_text())["data"]) == 16


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ways", "grpc,http", "--url", "grpc://127.0.0.1:1"], "of the scheme http"),
        (["--ways", "rest"], "--ways must be of grpc, http, client, got rest"),
        (["--url", "127.0.0.1:1"], "must be grpc://HOST:PORT or http://HOST:PORT, got '127"),
        (["no-such.mp4"], "no such file: no-such.mp4"),
        (["--clients", "1,0"], "--clients: must be a whole number >= 1, got '0'"),
        (["--by-uri"], "--by-uri needs a VIDEO and --cached-shares 1"),
    ],
)
def test_a_command_line_that_cannot_be_run(words, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks/serve.py", *words])
    with pytest.raises(SystemExit):
        serve.main()
    assert message in capsys.readouterr().err
