"""The GPU check's decoding of whole files, on a CPU."""

from __future__ import annotations

from benchmarks.gpu.media import measure_media
from benchmarks.gpu.models import Bench
from benchmarks.gpu.report import NotRun
from benchmarks.gpu.size import SMALL
from tests.media_assets import VP9, asset_maker


def test_whole_files_are_decoded_and_resized_side_by_side(tmp_path):
    asset_maker(tmp_path)(VP9)
    rows = measure_media(Bench(size=SMALL, device="cpu"), tmp_path)
    assert list(rows) == [
        f"vp9.webm: {what}, {batch} side by side"
        for batch in (1, 4, 8)
        for what in ("decode", "decode and resize")
    ]
    for name, row in rows.items():
        assert row["frames"] == int(name.split(", ")[1].split()[0]) * VP9.num_frames
        assert row["frames_per_second"] > 0


def test_without_files_nothing_is_timed(tmp_path):
    bench = Bench(size=SMALL, device="cpu")
    assert isinstance(measure_media(bench, tmp_path), NotRun)
    assert isinstance(measure_media(bench, None), NotRun)
