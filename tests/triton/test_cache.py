"""The feature cache on the real server: what it saves, what it survives, whom it serves."""

from __future__ import annotations

import json
import math
import os
import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from groundserve.engines.manifest import CHUNK_FRAMES
from tests.triton.protocol import RejectedError
from tests.triton.serve import Server, in_parallel, serve

DENSE = {"sampling": "infer", "sample_fps": 20, "num_frames": 150}
TEN_FPS = {"sample_fps": 10}
OUTPUTS = ("FRAME_INDICES", "PTS_SECONDS", "FRAME_LOGITS", "FRAME_SCORES", "SELECTED_FRAMES")


@pytest.fixture(scope="module")
def folder(cached) -> Path:
    """Of the cache."""
    return cached.log_file.parent / "cache"


@pytest.fixture
def empty(cached, folder) -> Server:
    """The server after somebody removed all entries, as anybody may."""
    for entry in entries(folder):
        entry.unlink()
    return cached


@pytest.fixture(scope="module")
def other(engine_dirs, cached, folder, tmp_path_factory) -> Iterator[Server]:
    """A second server on the same directory."""
    log_file = tmp_path_factory.mktemp("other") / "log"
    with serve(engine_dirs["cpu"], log_file, cache_dir=folder) as running:
        yield running


def info(answer) -> dict:
    return json.loads(answer["INFO"][0])


def assert_equal(answer, expected):
    for name in OUTPUTS:
        np.testing.assert_array_equal(answer[name], expected[name], err_msg=name)


def assert_one_decode(grown, num_frames):
    assert grown["frames_decoded_total"] == num_frames
    assert grown["vision_frames_total"] == num_frames
    assert grown["vision_passes_total"] == math.ceil(num_frames / CHUNK_FRAMES)
    assert grown["cache_misses_total"] == 1


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.entry"))


def test_32_questions_cost_one_decode_and_one_vision_pass(cached, clips):
    before = cached.metrics()
    answer = cached.ask(clips["vfr"], *[f"Question {i}?" for i in range(32)])
    assert answer["FRAME_LOGITS"].shape[0] == 32
    assert_one_decode(cached.growth(before), len(answer["FRAME_INDICES"]))


def test_questions_8_at_a_time_cost_one_decode(cached, clips):
    before = cached.metrics()
    answers = in_parallel(
        8, lambda i: cached.ask(clips["bigbuckbunny"], f"Question {i}?", **DENSE), range(16)
    )
    grown = cached.growth(before)
    assert_one_decode(grown, len(answers[0]["FRAME_INDICES"]))
    assert grown["cache_hits_total"] == 15
    assert sum(info(answer)["cache_hit"] for answer in answers) == 15


def test_hit_is_bit_equal_and_skips_workers_and_engines(cached, clips, pipeline):
    miss, hit = (cached.ask(clips["rotated"], "When?", top_k=3) for _ in range(2))
    assert [info(miss)["cache_hit"], info(hit)["cache_hit"]] == [False, True]
    assert_equal(hit, miss)
    assert list(info(hit)["timing_ms"]) == ["cache", "ground", "select"]
    (query,) = pipeline.score(clips["rotated"], "When?").queries
    np.testing.assert_array_equal(hit["FRAME_LOGITS"], [query.frame_logits])


def test_other_options_with_the_same_frames_hit_and_with_others_miss(cached, clips):
    def is_hit(**options):
        return info(cached.ask(clips["bikes"], "When?", **options))["cache_hit"]

    assert not is_hit(num_frames=6)
    assert is_hit(num_frames=6, top_k=2, selector="spread")
    assert not is_hit(num_frames=5)


def test_cached_question_does_not_wait_for_videos_being_decoded(cached, clips):
    """Both decoders are busy, with the same video at other rates."""
    cached.ask(clips["carphone_pristine"], "When?")
    with ThreadPoolExecutor(2) as pool:
        before = cached.metrics()["frames_decoded_total"]
        slow = [
            pool.submit(cached.ask, clips["bikes"], "When?", sampling="infer", sample_fps=fps)
            for fps in (12, 24)
        ]
        while cached.metrics()["frames_decoded_total"] == before:
            assert not any(future.done() for future in slow)
        answer = cached.ask(clips["carphone_pristine"], "Where?")
        assert not all(future.done() for future in slow)
        assert info(answer)["cache_hit"]
        assert not any(info(future.result())["cache_hit"] for future in slow)


def test_second_server_shares_the_directory(empty, other, clips):
    first = empty.ask(clips["bikes"], "When?")
    again = other.ask(clips["bikes"], "When?")
    assert info(again)["cache_hit"]
    assert_equal(again, first)
    # A video that neither knows, asked of both at once.
    servers = (empty, other)
    before = [server.metrics() for server in servers]
    answers = in_parallel(
        8, lambda i: servers[i % 2].ask(clips["bigbuckbunny"], "When?", **DENSE), range(8)
    )
    for answer in answers:
        assert_equal(answer, answers[0])
    grown = [server.growth(b) for server, b in zip(servers, before, strict=True)]
    decoded = sum(one["frames_decoded_total"] for one in grown)
    assert decoded == len(answers[0]["FRAME_INDICES"])
    assert sum(one["cache_misses_total"] for one in grown) == 1


def test_server_killed_amid_a_decode_holds_nobody_up(empty, other, clips):
    passes = other.metrics()["vision_passes_total"]
    with ThreadPoolExecutor(2) as pool:
        lost = pool.submit(other.ask, clips["bikes"], "When?", **DENSE)
        while other.metrics()["vision_passes_total"] == passes:
            assert not lost.done()
        waiting = pool.submit(empty.ask, clips["bikes"], "When?", **DENSE)
        os.killpg(other.triton.pid, signal.SIGKILL)
        with pytest.raises(RejectedError):
            lost.result()
        assert not info(waiting.result())["cache_hit"]
        assert info(empty.ask(clips["bikes"], "When?", **DENSE))["cache_hit"]


def test_restarted_server_finds_what_it_wrote_and_stays_below_its_ceiling(
    engine_dirs, clips, tmp_path
):
    ceiling = {"cache_dir": tmp_path / "cache", "cache_bytes": 120_000}
    with serve(engine_dirs["cpu"], tmp_path / "log", **ceiling) as server:
        for num_frames in range(1, 31):
            last = server.ask(clips["carphone_pristine"], "When?", num_frames=num_frames, **TEN_FPS)
        counted = server.metrics()
        sizes = [entry.stat().st_size for entry in entries(tmp_path / "cache")]
        assert counted["cache_bytes"] == sum(sizes) <= 120_000
        assert counted["cache_evictions_total"] > 0
        server.triton.restart()
        again = server.ask(clips["carphone_pristine"], "When?", num_frames=30, **TEN_FPS)
        assert info(again)["cache_hit"]
        assert_equal(again, last)
        assert server.metrics()["frames_decoded_total"] == 0


def test_corrupt_entries_are_found_and_computed_again(empty, folder, clips):
    rng = random.Random(20251121)
    before = empty.metrics()
    first = empty.ask(clips["carphone_pristine"], "When?", num_frames=3)
    for number in range(8):
        entry = rng.choice(entries(folder))
        data = bytearray(entry.read_bytes())
        place = rng.randrange(len(data))
        if number % 2:
            del data[place:]
        else:
            data[place] ^= 1 << rng.randrange(8)
        entry.write_bytes(data)
        again = empty.ask(clips["carphone_pristine"], "When?", num_frames=3)
        assert_equal(again, first)
        assert len(entries(folder)) == 2
    grown = empty.growth(before)
    assert grown["cache_corrupted_total"] == 8
    assert grown["errors_total" + '{class="InternalError"}'] == 0
