"""How the stages' costs become rows, and what the machine's peaks are made of."""

import pytest

from benchmarks import _machine
from benchmarks._usage import Usage
from benchmarks.stages import STAGES, Costs, stage_rows


def costs(decode_wall, *, decode_floor):
    """Stages of 1 s in two chunks; decoding as given, in one."""
    half = Usage(wall_seconds=0.5, cpu_seconds=0.25, peak_rss_mib=1.0)
    found = Costs(
        usage={stage: [half, half] for stage in STAGES if stage != "transport"},
        num_bytes={"decode": 300, "transport": 500},
        floor_seconds={"decode": decode_floor, "transport": 0.01},
    )
    found.usage["decode"] = [Usage(wall_seconds=decode_wall, cpu_seconds=6.0, peak_rss_mib=1.0)]
    return found


def test_rows_have_the_floor_beside_the_time():
    rows = stage_rows(
        [costs(4.0, decode_floor=2.0), costs(8.0, decode_floor=3.0)],
        {"encode": 0.8, "ground": 0.25},
        {"added_wall_seconds": {"median": 0.1}, "added_cpu_seconds": 0.2},
    )
    assert tuple(rows) == STAGES
    assert rows["decode"]["wall_seconds"]["median"] == 6.0
    assert rows["decode"]["cpu_seconds"] == 6.0
    assert rows["decode"]["bytes"] == 300
    # Of a floor that is timed itself, the best.
    assert rows["decode"]["floor_seconds"] == 2.0
    assert rows["decode"]["share_of_floor"] == pytest.approx(2.0 / 6.0)
    # Chunks add up.
    assert rows["encode"]["wall_seconds"]["median"] == 1.0
    assert rows["encode"]["cpu_seconds"] == 0.5
    assert rows["encode"]["share_of_floor"] == pytest.approx(0.8)
    assert rows["transport"]["share_of_floor"] == pytest.approx(0.1)
    assert rows["probe"]["floor_seconds"] is None
    assert rows["probe"]["share_of_floor"] is None


def test_the_peaks_are_the_best_of_libraries_and_sizes(monkeypatch):
    monkeypatch.setattr(_machine, "GEMM_SIZES", ((8, 16, 32), (16, 16, 16)))
    monkeypatch.setattr(_machine, "_WINDOWS", 1)
    monkeypatch.setattr(_machine, "_WINDOW_SECONDS", 0.001)
    monkeypatch.setattr(_machine, "_COPY_BYTES", 4096)
    peaks = _machine.measure_peaks()
    assert set(peaks.sgemm_gflops_by_library) == {"torch", "onnxruntime"}
    for library, rates in peaks.sgemm_gflops_by_size.items():
        assert set(rates) == {"8 x 16 x 32", "16 x 16 x 16"}
        assert max(rates.values()) == peaks.sgemm_gflops_by_library[library] > 0
    assert peaks.sgemm_gflops == max(peaks.sgemm_gflops_by_library.values())
    assert peaks.int8_gemm_gops == max(peaks.int8_gemm_gops_by_size.values()) > 0
    assert peaks.copy_gb_per_second > 0
