"""benchmarks.decode: its processes, their pixels, and a run that goes on where it stopped."""

import json
import sys

import numpy as np
import pytest

from benchmarks import decode
from benchmarks._decode_cells import Cell
from benchmarks._decoders import Job
from benchmarks._media import make_video
from benchmarks._pixels import compare, decode_in_order
from benchmarks._report import commit, describe_video
from tests.unit.benchmarks.test_report import PEAKS

TINY = {"codec": "h264", "height": 36, "gop": 12, "seconds": 2}
CELL = Cell(**TINY, num_frames=5, seek="exact", output="full")


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    make_video(folder, **TINY)
    return folder


def job_of(path, **fields):
    return Job(path=str(path), frame_indices=[0, 20, 40], gop=12, image_size=24, **fields)


def test_wrong_frames_and_other_values_are_told_apart(media):
    video = make_video(media, **TINY)
    shown = np.stack([frame.to_ndarray(format="rgb24") for frame in decode_in_order(video)])
    targets = [0, 13, 25, 40]
    right = shown[targets]
    one_wrong = shown[[0, 13, 26, 40]]
    rounded = right.copy()
    rounded[1, 5, 5, 0] ^= 1
    found = compare(
        video,
        targets,
        {"right": right, "one_wrong": one_wrong, "rounded": rounded, "cropped": right[:, 1:]},
    )
    assert found["right"] == {
        "frames": 4, "share_equal": 1.0, "largest_difference": 0, "off_by": {}
    }  # fmt: skip
    assert found["one_wrong"] == {
        "frames": 4, "share_equal": 0.75, "largest_difference": 0, "off_by": {"1": 1}
    }  # fmt: skip
    assert found["rounded"] == {
        "frames": 4, "share_equal": 0.75, "largest_difference": 1, "off_by": {}
    }  # fmt: skip
    assert found["cropped"] == {"error": "frames of (35, 64, 3), not (36, 64, 3)"}


def test_ordinals_past_the_part_that_repeats_start_over(media):
    video = make_video(media, **TINY)
    shown = np.stack([frame.to_ndarray(format="rgb24") for frame in decode_in_order(video)])
    found = compare(video, [59, 60, 185], {"loop": shown[[59, 0, 5]]})
    assert found["loop"]["share_equal"] == 1.0


def test_all_that_is_installed_here_gives_the_same_pixels(media):
    result = decode.run_cell(CELL, media, ["ours", "pyav"], repeats=2, cell_seconds=60.0)
    for name in ("ours", "pyav"):
        library = result["libraries"][name]
        assert library["pixels"]["share_equal"] == 1.0
        assert library["shape"] == [5, 36, 64, 3]
        assert len(library["wall_seconds"]) == len(library["cpu_seconds"]) == 2


def test_a_process_answers_an_error_and_goes_on(media, tmp_path):
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(b"no video")
    with decode.DecoderProcess("pyav") as process:
        assert "InvalidDataError" in process.run(job_of(damaged))["error"]
        assert process.run(job_of(make_video(media, **TINY)))["shape"] == [3, 24, 24, 3]


def test_a_process_that_ends_is_an_error(media):
    with decode.DecoderProcess("no such library") as process:
        process._process.kill()
        assert process.run(job_of(media)) == {"error": "its process ended with -9"}


def test_a_failed_library_is_not_asked_again(media, monkeypatch):
    asked = []

    class Fake:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def run(self, job):
            asked.append(self.name)
            if self.name == "decord" and asked.count("decord") == 2:
                return {"error": "stuck"}
            return {"wall_seconds": 1.0, "cpu_seconds": 1.0, "peak_rss_mib": 1.0, "shape": []}

    monkeypatch.setattr(decode, "DecoderProcess", Fake)
    result = decode.run_cell(CELL, media, ["ours", "decord"], repeats=3, cell_seconds=60.0)
    # One frame before anything is timed, then rounds.
    assert (asked.count("ours"), asked.count("decord")) == (4, 2)
    assert result["libraries"]["decord"] == {"error": "stuck"}
    asked.clear()
    decode.run_cell(CELL, media, ["ours"], repeats=3, cell_seconds=2.0)
    assert asked.count("ours") == 1 + 2


def test_cells_that_are_there_are_not_run_again(media, tmp_path, monkeypatch, capsys):
    ran = []

    def fake(cell, *_, **__):
        ran.append(cell.name)
        if len(ran) == 3:
            raise KeyboardInterrupt
        run = {"wall_seconds": 1.0, "cpu_seconds": 1.0, "peak_rss_mib": 1.0, "shape": []}
        made_with = {"commit": "abc", "cpu_model": "cpu", "input": {"name": cell.codec}}
        return decode.cell_result(cell, {"ours": [run], "pyav": [{"error": "no"}]}, {}) | made_with

    def run():
        decode.main()

    summary = tmp_path / "summary.json"
    words = ["--media", str(media), "--out", str(tmp_path / "cells"), "--libraries", "ours,pyav"]
    words += ["--only", "codec=h264,seconds=7200,gop=12", "--summary", str(summary)]
    monkeypatch.setattr(decode, "run_cell", fake)
    monkeypatch.setattr(decode, "measure_peaks", lambda: PEAKS)
    monkeypatch.setattr(sys, "argv", ["decode", *words])
    with pytest.raises(KeyboardInterrupt):
        run()
    assert len(list((tmp_path / "cells").iterdir())) == 2
    run()
    assert len(ran) == 3 + 3
    assert ran[2] in ran[3:]
    assert set(ran[:2]).isdisjoint(ran[3:])
    report = json.loads(summary.read_text())
    assert report["machine"]["peaks"] == PEAKS.to_dict()
    assert report["inputs"] == [{"name": "h264"}]
    assert report["errors"] == 5 * ["h264 480p, GOP 12, pyav: no"]
    results = report["results"]
    assert results["measured_on"] == {"abc, cpu": 5}
    assert results["summary"]["exact"]["wall_seconds"]["num_cells"] == 2
    assert len(results["cells"]) == 5
    assert "5 cells, about" in capsys.readouterr().out


def test_a_cell_says_what_it_was_measured_with(media):
    result = decode.run_cell(CELL, media, ["ours"], repeats=1, cell_seconds=60.0)
    assert result["input"] == describe_video(make_video(media, **TINY))
    assert result["commit"] == commit()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "codec=h265"], "--only codec=h265 leaves no cell"),
        (["--repeats", "0"], "--repeats: must be a whole number >= 1, got '0'"),
    ],
)
def test_a_command_line_that_cannot_be_run(words, message, monkeypatch, tmp_path, capsys):
    places = ["--media", str(tmp_path), "--out", str(tmp_path / "out"), "--libraries", "ours"]
    monkeypatch.setattr(sys, "argv", ["decode", *places, *words])
    with pytest.raises(SystemExit):
        decode.main()
    assert message in capsys.readouterr().err


def test_a_library_that_is_missing_is_named_before_any_work(monkeypatch, tmp_path):
    monkeypatch.setattr(decode.importlib.util, "find_spec", lambda name: name != "decord" or None)
    words = ["decode", "--media", str(tmp_path), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match="decord is not installed: pip install -r"):
        decode.main()
    assert not (tmp_path / "out").exists()
