"""The metrics of ours, and the log's line for each request."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from python_backend.meter import COUNTER_NAMES
from tests.triton.protocol import RejectedError
from tests.triton.serve import in_parallel, serve

DENSE = {"sampling": "infer", "sample_fps": 20, "num_frames": 150}


@pytest.fixture
def server(engine_dirs, tmp_path):
    with serve(engine_dirs["cpu"], tmp_path / "log") as running:
        yield running


def media_workers(server) -> list[psutil.Process]:
    processes = psutil.Process(server.triton.pid).children(recursive=True)
    return [process for process in processes if "groundserve.media._worker" in process.cmdline()]


def test_everything_starts_at_zero(server):
    counted = server.metrics()
    names = [f"{name}_total" for name in COUNTER_NAMES]
    assert {counted[name] for name in names} == {0}
    assert counted["cache_bytes"] == 0
    assert counted['stage_seconds_count{stage="decode"}'] == 0
    assert counted['errors_total{class="MediaError"}'] == 0


def test_instances_and_models_add_up(server, clips):
    names = ["bikes", "bigbuckbunny", "carphone_pristine", "vfr"] * 3
    answers = in_parallel(6, lambda name: server.ask(clips[name], "When?"), names)
    counted = server.metrics()
    num_frames = sum(len(answer["FRAME_INDICES"]) for answer in answers)
    assert counted["frames_decoded_total"] == counted["vision_frames_total"] == num_frames
    assert counted["vision_passes_total"] == len(names)
    for stage in ("probe", "cut", "decode", "encode", "ground", "select"):
        assert counted[f'stage_seconds_count{{stage="{stage}"}}'] == len(names)
        assert counted[f'stage_seconds_sum{{stage="{stage}"}}'] > 0
    assert counted["cache_hits_total"] == counted["cache_misses_total"] == 0


def test_errors_are_counted_once_by_class(server, clips, tmp_path):
    no_video = tmp_path / "no_video"
    no_video.write_bytes(b"\0no video" * 99)
    for video, query in ((no_video, "When?"), (clips["vfr"], "<image>")):
        with pytest.raises(RejectedError):
            server.ask(video, query)
    counted = server.metrics()
    errors = {name: value for name, value in counted.items() if name.startswith("errors") and value}
    assert errors == {
        'errors_total{class="MediaError"}': 1,
        'errors_total{class="InvalidRequestError"}': 1,
    }


def test_worker_that_dies_amid_a_request_is_counted(server, clips):
    server.ask(clips["vfr"], "When?")  # starts the workers of one instance
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.ask, clips["bikes"], "When?", **DENSE)
        while server.metrics()["frames_decoded_total"] < 64:
            time.sleep(0.01)
        for worker in media_workers(server):
            worker.kill()
        with pytest.raises(RejectedError, match="the decoder process died") as caught:
            asked.result()
    assert caught.value.code == "UNAVAILABLE"
    counted = server.metrics()
    assert counted["worker_deaths_total"] >= 1
    assert counted['errors_total{class="UnavailableError"}'] == 1
    server.ask(clips["vfr"], "When?")


def test_one_line_of_json_a_request_that_tells_nothing_of_the_user(server, clips):
    server.ask(clips["vfr"], "a very secret question", request_id="request-7")
    with pytest.raises(RejectedError):
        server.ask(clips["vfr"], "<image>", request_id="request-8")
    features, grounding, refused = server.log_lines()
    assert features.pop("timing_ms").keys() == {"probe", "cut", "decode", "encode"}
    assert features == {
        "model": "video_features",
        "request_id": "request-7",
        "num_frames": 4,
        "grid": 8,
        "cache_hit": False,
    }
    assert grounding.pop("timing_ms").keys() == {"ground"}
    assert grounding == {
        "model": "grounding",
        "request_id": "request-7",
        "num_frames": 4,
        "num_queries": 1,
    }
    assert refused == {
        "model": "video_features",
        "request_id": "request-8",
        "error": "InvalidRequestError",
    }
    assert "secret" not in server.log_file.read_text("utf-8")
