"""The metrics of ours."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from python_backend.meter import COUNTER_NAMES
from tests.triton.protocol import RejectedError
from tests.triton.serve import in_parallel, media_workers

DENSE = {"sampling": "infer", "sample_fps": 20, "num_frames": 150}


@pytest.fixture(scope="module")
def server(served):
    return served


def test_everything_starts_at_zero(server):
    counted = server.first_metrics
    names = [f"{name}_total" for name in COUNTER_NAMES]
    assert {counted[name] for name in names} == {0}
    assert counted["cache_bytes"] == 0
    assert counted['stage_seconds_count{stage="decode"}'] == 0
    assert counted['errors_total{class="MediaError"}'] == 0


def test_instances_and_models_add_up(server, clips):
    names = ["bikes", "bigbuckbunny", "carphone_pristine", "vfr"] * 3
    before = server.metrics()
    answers = in_parallel(6, lambda name: server.ask(clips[name], "When?"), names)
    counted = server.growth(before)
    num_frames = sum(len(answer["FRAME_INDICES"]) for answer in answers)
    assert counted["frames_decoded_total"] == counted["vision_frames_total"] == num_frames
    assert counted["vision_passes_total"] == len(names)
    for stage in ("probe", "cut", "decode", "encode", "ground", "select"):
        assert counted[f'stage_seconds_count{{stage="{stage}"}}'] == len(names)
        assert counted[f'stage_seconds_sum{{stage="{stage}"}}'] > 0
    assert counted["cache_hits_total"] == counted["cache_misses_total"] == 0


def test_errors_are_counted_once_by_class(server, clips, tmp_path):
    before = server.metrics()
    no_video = tmp_path / "no_video"
    no_video.write_bytes(b"\0no video" * 99)
    for video, query in ((no_video, "When?"), (clips["vfr"], "<image>")):
        with pytest.raises(RejectedError):
            server.ask(video, query)
    counted = server.growth(before)
    errors = {name: value for name, value in counted.items() if name.startswith("errors") and value}
    assert errors == {
        'errors_total{class="MediaError"}': 1,
        'errors_total{class="InvalidRequestError"}': 1,
    }


def test_errors_of_inner_models_are_counted_as_what_they_are(server, clips):
    """A frame that `video_decode` finds damaged, and a deadline that passes there."""
    before = server.metrics()
    data = bytearray(clips["carphone_pristine"].read_bytes())
    start = data.index(b"mdat") + 8
    data[start + 1000 : start + 200_000] = bytes(199_000)
    with pytest.raises(RejectedError, match="the video is damaged there"):
        server.send(bytes(data), "When?")
    with pytest.raises(RejectedError, match="allow more time"):
        server.send(clips["bikes"].read_bytes(), "When?", timeout_seconds=0.1, **DENSE)
    counted = server.growth(before)
    assert counted['errors_total{class="MediaError"}'] == 1
    assert counted['errors_total{class="DeadlineExceededError"}'] == 1
    assert counted['errors_total{class="InvalidRequestError"}'] == 0
    assert counted['errors_total{class="UnavailableError"}'] == 0


def test_worker_that_dies_amid_a_request_is_counted(harmed, clips):
    harmed.ask(clips["vfr"], "When?")  # starts the workers of one instance
    before = harmed.metrics()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(harmed.ask, clips["bikes"], "When?", **DENSE)
        while harmed.growth(before)["frames_decoded_total"] < 64:
            time.sleep(0.01)
        for worker in media_workers(harmed):
            worker.kill()
        with pytest.raises(RejectedError, match="the decoder process died") as caught:
            asked.result()
    assert caught.value.code == "UNAVAILABLE"
    counted = harmed.growth(before)
    assert counted["worker_deaths_total"] >= 1
    assert counted['errors_total{class="UnavailableError"}'] == 1
    harmed.ask(clips["vfr"], "When?")
