"""The cost model: what it reads, what it counts, what holds a cluster up."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from benchmarks import scale
from benchmarks._cost import (
    Cluster,
    Request,
    Video,
    num_decoded,
    stage_seconds,
)
from benchmarks._cost_rates import PEAK_TFLOPS, gpu_rates, measured_rates
from benchmarks.gpu.size import FULL, SMALL
from groundserve.errors import InvalidRequestError
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT

VIDEO = Video(duration_seconds=600, fps=25.0, gop=250, bytes_per_second=500_000)
STAGES = {
    "results": {
        "num_frames": 64,
        "stages": {
            name: {"cpu_seconds": seconds}
            for name, seconds in {
                "probe": 0.25,
                "cut": 0.5,
                "decode": 40.0,
                "convert": 0.5,
                "resize": 1.5,
                "encode": 20.0,
                "ground": 8.0,
                "select": 0.01,
                "transport": 0.3,
            }.items()
        },
    },
    "inputs": [
        {"num_packets": 15_000, "num_key_packets": 60, "average_fps": 25.0, "bytes": 300_000_000}
    ],
}
CLUSTER = Cluster(
    node_units=10,
    has_decoders=False,
    busy_share=0.5,
    storage_bytes_per_second=1e9,
    publish_seconds=0.1,
    node_price=2.0,
)
SECONDS = {"probe": 0.0, "cut": 0.0, "decode": 6.0, "encode": 3.0, "ground": 1.0, "select": 0.0}


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        pytest.param([0], 1, id="a_key_frame"),
        pytest.param([9], 10, id="the_last_of_a_group"),
        pytest.param([3, 7, 12], 8 + 3, id="up_to_the_last_target_of_each_group"),
        pytest.param(range(40), 40, id="all"),
        pytest.param([5, 35], 6 + 6, id="groups_between_are_left_out"),
    ],
)
def test_pictures_decoded(frames, expected):
    assert num_decoded(np.array(frames), 10) == expected


def test_what_was_measured_comes_out_again():
    rates, video = measured_rates(STAGES, SMALL, source="stages.json")
    assert video == VIDEO
    found = stage_seconds(video, Request(num_frames=64), rates, SMALL)
    for stage in ("probe", "cut", "decode", "encode", "ground", "select"):
        expected = STAGES["results"]["stages"][stage]["cpu_seconds"]
        assert found[stage] == pytest.approx(expected, rel=1e-12)
    assert {one.origin for one in vars(rates).values()} == {"measured"}
    assert {one.source for one in vars(rates).values()} == {"stages.json"}


def test_growth_with_questions_frames_and_length():
    rates, video = measured_rates(STAGES, SMALL, source="")
    once, more = (
        stage_seconds(video, Request(num_frames=64, num_questions=number), rates, SMALL)
        for number in (1, 5)
    )
    assert more["ground"] == pytest.approx(5 * once["ground"])
    assert {stage for stage in once if once[stage] != more[stage]} == {"ground", "select"}
    half = stage_seconds(video, Request(num_frames=32), rates, SMALL)
    assert half["encode"] == pytest.approx(once["encode"] / 2)
    short = Video(duration_seconds=60, fps=25.0, gop=250, bytes_per_second=500_000)
    # Fewer candidates than frames asked for: one a second.
    assert len(Request(num_frames=512).frames_of(short)) == 60


def test_published_figures_stand_in_for_a_gpu():
    rates = gpu_rates(None, source="")
    seconds = stage_seconds(VIDEO, Request(), rates, FULL)
    # docs/benchmarks.md: 564 TFLOP for 512 new frames, in whole TFLOP.
    tflop = (seconds["encode"] + seconds["ground"]) * PEAK_TFLOPS / 2
    assert tflop == pytest.approx(564, abs=0.5)
    assert rates.encode_flop.origin == rates.decode_picture.origin == "computed"


@pytest.mark.parametrize(
    ("size", "device", "status", "origin"),
    [
        (FULL.name, "cuda:0", "ok", "measured"),
        (FULL.name, "cpu", "ok", "computed"),
        (SMALL.name, "cuda:0", "ok", "computed"),
        (FULL.name, "cuda:0", "failed", "computed"),
    ],
)
def test_a_gpu_check_fills_what_it_measured(size, device, status, origin):
    results = {"encode": {"tflops": 400.0}, "ground_is_repeat": {"tflops": 800.0}}
    media = {
        "h264_1080p.mp4: decode, 1 side by side": {"frames_per_second": 900.0},
        "h264_1080p.mp4: decode, 8 side by side": {"frames_per_second": 5000.0},
        "h264_1080p.mp4: decode and resize, 8 side by side": {"frames_per_second": 9000.0},
        "h264_480p.mp4: decode, 8 side by side": {"not run": "why"},
        "vp9_480p.webm: decode, 8 side by side": {"frames_per_second": 9000.0},
    }
    parts = {"main request": results, "decode": media}
    check = {
        "size": size,
        "machine": {"device": device},
        "parts": [
            {"part": name, "status": status, "results": found} for name, found in parts.items()
        ],
    }
    rates = gpu_rates(check, source="gpu_check.json")
    figures = (rates.encode_flop, rates.ground_flop, rates.decode_picture)
    assert {one.origin for one in figures} == {origin}
    if origin == "measured":
        assert rates.encode_flop.value == pytest.approx(1 / 400e12)
        assert rates.ground_flop.value == pytest.approx(1 / 800e12)
        assert rates.decode_picture.value == pytest.approx(1 / 5000)
        assert {one.source for one in figures} == {"gpu_check.json"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # 5 cores busy of 10; 10 s a video.
        pytest.param({}, ("cores", 0.5), id="cores"),
        # 6 s of decoding beside 4 s of networks.
        pytest.param({"has_decoders": True}, ("hardware decoders", 5 / 6), id="decoders"),
        # 300 MB a video.
        pytest.param({"storage_bytes_per_second": 3e6}, ("storage", 0.01), id="storage"),
        # 4 videos a unit.
        pytest.param({"publish_seconds": 40.0}, ("driver", 0.1), id="driver"),
    ],
)
def test_what_holds_a_cluster_up(change, expected):
    cluster = Cluster(**{**vars(CLUSTER), **change})
    limits = cluster.rate_limits(1, VIDEO, SECONDS, unit_videos=4)
    least = min(limits, key=lambda part: limits[part])
    assert (least, limits[least]) == (expected[0], pytest.approx(expected[1]))


def test_nodes_and_price():
    assert CLUSTER.nodes_for(1.0, SECONDS) == 2
    assert CLUSTER.nodes_for(0.5, SECONDS) == 1
    # 6,000 videos of 10 minutes, 10 s each on cores that are busy half of the time.
    found = scale.per_1000_hours(VIDEO, 10.0, CLUSTER)
    assert found["hours"] == pytest.approx(6000 * 10 / 0.5 / 3600)
    assert found["price"] == pytest.approx(found["hours"] / 10 * 2.0)


def test_units_are_the_planner_s():
    assert scale.videos_a_unit(VIDEO, num_videos=10**6, workers=8) == 4 * 2**30 // VIDEO.num_bytes
    tiny = Video(duration_seconds=1, fps=25.0, gop=250, bytes_per_second=1)
    assert scale.videos_a_unit(tiny, num_videos=10**6, workers=8) == 64
    assert scale.videos_a_unit(tiny, num_videos=10, workers=8) == 1


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_a_report_says_of_each_number_where_it_comes_from(profile, tmp_path, monkeypatch, capsys):
    stages, out = tmp_path / "stages.json", tmp_path / "scale.json"
    stages.write_text(json.dumps(STAGES))
    monkeypatch.setattr(scale, "_PUBLISHES", 2)
    # A report that is committed one day must not change what this is about.
    monkeypatch.setattr(scale, "RESULTS", tmp_path)
    words = ["--profile", profile, "--num-frames", "128", "--out", str(out)]
    if profile == "cpu":
        words += ["--stages", str(stages), "--checkpoint", str(SHIPPED_CHECKPOINT)]
    monkeypatch.setattr(sys, "argv", ["scale.py", *words])
    scale.main()
    results = json.loads(out.read_text())["results"]
    assert results == json.loads(capsys.readouterr().out)["results"]
    origins = {one["origin"] for one in results["rates"].values()}
    assert origins == ({"measured"} if profile == "cpu" else {"computed", "given"})
    assert results["publishing_here"]["origin"] == "measured"
    for table in ("by_duration", "by_frames", "by_questions", "nodes", "clusters"):
        assert {row["origin"] for row in results[table].values()} == {"computed"}
    rates = [row["video_hours_per_hour"] for row in results["clusters"].values()]
    assert rates == sorted(rates)


def test_without_stages_there_is_one_error(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["scale.py", "--profile", "cpu"])
    with pytest.raises(InvalidRequestError, match=r"run python -m benchmarks\.stages"):
        scale.main()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"size": "x"}', "\xff"])
@pytest.mark.parametrize("runner", ["stages", "gpu_check"])
def test_a_file_that_is_no_report_is_one_error(runner, text, tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    path.write_bytes(text.encode("latin-1"))
    words = {
        "stages": ["--profile", "cpu", "--checkpoint", str(SHIPPED_CHECKPOINT)],
        "gpu_check": ["--profile", "gpu"],
    }[runner]
    option = f"--{runner.replace('_', '-')}"
    monkeypatch.setattr(sys, "argv", ["scale", *words, option, str(path)])
    with pytest.raises(InvalidRequestError, match=rf"report\.json is no report of .*{runner}"):
        scale.main()


@pytest.mark.parametrize(
    "words",
    [
        ["--fps", "inf"],
        ["--publish-seconds", "0"],
        ["--busy-share", "1.5"],
        ["--node-units", "0"],
        ["--node-price", "-1"],
    ],
)
def test_arguments_are_checked(words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scale", "--profile", "gpu", *words])
    with pytest.raises(SystemExit):
        scale.parse_arguments()
    assert f"{words[0]}" in capsys.readouterr().err.splitlines()[-1]


def test_a_node_may_cost_nothing(tmp_path, monkeypatch):
    out = tmp_path / "scale.json"
    words = ["--profile", "gpu", "--node-price", "0", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["scale", *words])
    scale.main()
    assert json.loads(out.read_text())["results"]["given"]["node_price"] == 0
