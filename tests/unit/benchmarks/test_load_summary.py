"""What samples and readings come to, by hand."""

from __future__ import annotations

import pytest

from benchmarks._load_summary import summarise
from benchmarks._loops import Measured, Sample
from benchmarks._server_view import Reading
from groundserve.results import VideoInfo

SPANS = ("fail", "queue", "compute_input", "compute_infer", "compute_output")


def info(*, cache_hit, **timing_ms):
    return VideoInfo(
        num_source_frames=1,
        fps=1.0,
        duration_seconds=1.0,
        num_frames=1,
        engine={},
        decoders=[],
        cache_hit=cache_hit,
        keyframe_shift_seconds=0.0,
        video_bytes=1,
        timing_ms=timing_ms,
    )


def sample(due, seconds, *, is_cached=True, code="ok", late=0.0, **timing_ms):
    return Sample(
        is_cached=is_cached,
        due=due,
        sent=due + late,
        done=due + seconds,
        code=code,
        info=info(cache_hit=is_cached, **timing_ms) if code == "ok" else None,
    )


def reading(at, server_cpu, generator_cpu, requests, nanoseconds):
    spans = dict.fromkeys(("success", *SPANS), (requests, nanoseconds)) | {"fail": (0, 0)}
    return Reading(
        at=at,
        server_cpu=server_cpu,
        generator_cpu=generator_cpu,
        statistics={"grounding": spans, "idle": dict.fromkeys(("success", *SPANS), (3, 3))},
    )


def measured(samples, server_cpu=(10.0, 16.0)):
    first, last = (
        {"tritonserver": seconds} if seconds is not None else {} for seconds in server_cpu
    )
    readings = [reading(10.0, first, 1.0, 100, 0), reading(14.0, last, 1.5, 104, 8_000_000)]
    return Measured(samples=samples, bounds=[10.0, 12.0, 14.0], readings=readings, is_stable=None)


SAMPLES = [
    sample(9.0, 0.5),  # of the warm-up
    sample(9.9, 0.3, ground=99.0),  # due before the windows, answered in the first
    sample(10.0, 0.1, ground=1.0),
    sample(11.0, 0.2, ground=3.0, late=0.05),
    sample(12.0, 0.3, is_cached=False, ground=5.0, decode=7.0),
    sample(12.5, 0.004, code="UnavailableError"),
    sample(13.0, 1.0, code="DeadlineExceededError"),
    sample(13.9, 2.5, is_cached=False, ground=5.0, decode=9.0),  # answered after the windows
    sample(14.0, 0.1),  # due after them
]


def test_summary():
    found = summarise(measured(SAMPLES), slo_seconds=2.0, num_cores=2)
    assert found["offered_per_second"] == 6 / 4
    assert found["answers_per_second"] == 4 / 4
    assert found["answers_per_second_by_window"] == [3 / 2, 1 / 2]
    assert found["goodput_per_second"] == 3 / 4
    assert found["outcomes"] == {"ok": 4, "UnavailableError": 1, "DeadlineExceededError": 1}
    assert found["num_not_answered"] == 2
    assert found["seconds"]["count"] == 4
    assert found["seconds"]["median"] == pytest.approx(0.25)
    assert found["refused_seconds"]["UnavailableError"]["median"] == pytest.approx(0.004)
    assert found["refused_seconds"]["DeadlineExceededError"]["count"] == 1
    assert found["sent_late_seconds"]["count"] == 6
    assert found["sent_late_seconds"]["p99"] == pytest.approx(0.05, rel=0.1)
    cached, cold = found["by_kind"]["cached"], found["by_kind"]["cold"]
    assert cached["cache_hit_share"] == 1.0
    assert cached["median_ms_by_stage"] == {"ground": 2.0}
    assert cold["cache_hit_share"] == 0.0
    assert cold["median_ms_by_stage"] == {"decode": 8.0, "ground": 5.0}


def test_the_floor_is_what_the_cores_could_answer():
    found = summarise(measured(SAMPLES), slo_seconds=2.0, num_cores=2)["cpu"]
    # 6 s of the server and 0.5 s of the generator for 4 answers in 4 s.
    assert found["server_seconds_per_answer"] == 1.5
    assert found["generator_seconds_per_answer"] == 0.125
    assert found["seconds_per_answer"] == 1.625
    assert found["server_cores"] == 1.5
    assert found["generator_cores"] == 0.125
    assert found["floor_answers_per_second"] == 2 / 1.625
    assert found["share_of_floor"] == pytest.approx(1.625 / 2)


def test_a_server_elsewhere_has_no_floor():
    found = summarise(measured(SAMPLES, (None, None)), slo_seconds=2.0, num_cores=2)["cpu"]
    assert found == {"generator_cores": 0.125, "generator_seconds_per_answer": 0.125}


def test_nothing_was_answered():
    refused = [sample(11.0, 0.1, code="UnavailableError")]
    found = summarise(measured(refused), slo_seconds=2.0, num_cores=2)
    assert found["seconds"] is None
    assert found["by_kind"] == {"cached": None, "cold": None}
    assert found["cpu"] == {"generator_cores": 0.125}


def test_times_of_models_that_answered():
    found = summarise(measured(SAMPLES), slo_seconds=2.0, num_cores=2)["server_ms_by_model"]
    assert found == {
        "grounding": {
            "requests": 4,
            "failed": 0,
            "queue_ms": 2.0,
            "compute_input_ms": 2.0,
            "compute_infer_ms": 2.0,
            "compute_output_ms": 2.0,
        }
    }
