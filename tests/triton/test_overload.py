"""More requests than can be answered: refused at once, in vain for nobody, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Barrier

import numpy as np
import pytest

from groundserve import Client, ScoreOptions, UnavailableError
from groundserve.runtime.deadline import Deadline
from python_backend.cache.store import locked
from tests.triton.protocol import RejectedError
from tests.triton.serve import in_parallel

NUM_REQUESTS = 60
NUM_NEVER_REFUSED = 32
DENSE = {"sampling": "infer", "sample_fps": 20, "num_frames": 64}
QUESTIONS = [f"When does it happen for time {number}?" for number in range(8)]


@pytest.fixture
def server(cached, clips):
    """A server whose cache has one video."""
    for entry in (cached.log_file.parent / "cache").glob("*.entry"):
        entry.unlink()
    cached.ask(clips["vfr"], *QUESTIONS, **DENSE)
    return cached


def count(server):
    """Refusals so far, and decoded videos."""
    counted = server.metrics()
    names = {
        "refused": 'errors_total{class="UnavailableError"}',
        "decoded": 'stage_seconds_count{stage="decode"}',
    }
    return Counter({name: int(counted[metric]) for name, metric in names.items()})


def ask_ensemble(server, clips, num_together=1):
    """With so many questions that `grounding` is the slowest step."""
    together = Barrier(num_together)

    def ask(number):
        together.wait()
        try:
            return server.ask(clips["vfr"], *QUESTIONS, request_id=str(number), **DENSE)
        except RejectedError as rejection:
            return f"{rejection.code} {rejection.message}"

    return ask


def ask_client(server, clips, num_together=1):
    together = Barrier(num_together)

    def ask(_):
        with Client(f"grpc://{server.triton.grpc_address}") as client:
            assert client.is_ready()  # connected: fifty handshakes would spread the requests
            together.wait()
            try:
                result = client.score(clips["vfr"], QUESTIONS, ScoreOptions(**DENSE))
            except UnavailableError as error:
                return f"UNAVAILABLE {error}"
            return {"FRAME_LOGITS": np.stack([query.frame_logits for query in result.queries])}

    return ask


@contextmanager
def video_being_decoded(server) -> Iterator[None]:
    """Whoever asks of the video waits for who seems to be decoding it."""
    cache = server.log_file.parent / "cache"
    features = max(cache.glob("*.entry"), key=lambda entry: entry.stat().st_size)
    features.unlink()
    with locked(cache / "lock", features.stem, deadline=Deadline.after(60)):
        yield


@pytest.mark.parametrize("way", [ask_ensemble, ask_client], ids=["ensemble", "client"])
def test_nobody_is_refused_after_decoding_and_every_refusal_is_counted(server, clips, way):
    before = count(server)
    with ThreadPoolExecutor(NUM_REQUESTS) as pool:
        with video_being_decoded(server):
            ask = way(server, clips, NUM_REQUESTS)
            asked = [pool.submit(ask, number) for number in range(NUM_REQUESTS)]
            # Not all have room to wait.
            assert wait(asked, timeout=60, return_when=FIRST_COMPLETED).done
        answers = [one.result() for one in asked]
    refusals = Counter(answer for answer in answers if isinstance(answer, str))
    scored = [answer for answer in answers if not isinstance(answer, str)]
    assert refusals
    where = "in ensemble 'videoitg', " if way is ask_ensemble else ""
    assert refusals.keys() == {f"UNAVAILABLE {where}the server has too many requests; try again"}
    assert len(scored) >= NUM_NEVER_REFUSED
    for answer in scored:
        np.testing.assert_array_equal(answer["FRAME_LOGITS"], scored[0]["FRAME_LOGITS"])
    counted = count(server)
    counted.subtract(before)
    assert counted["refused"] == refusals.total()
    assert counted["decoded"] == 1


@pytest.mark.parametrize("way", [ask_ensemble, ask_client], ids=["ensemble", "client"])
def test_as_many_clients_as_find_room_at_once_are_all_answered(server, clips, way):
    answers = in_parallel(
        NUM_NEVER_REFUSED, way(server, clips, NUM_NEVER_REFUSED), range(NUM_NEVER_REFUSED)
    )
    assert not [answer for answer in answers if isinstance(answer, str)]
    for answer in answers:
        np.testing.assert_array_equal(answer["FRAME_LOGITS"], answers[0]["FRAME_LOGITS"])


def test_time_that_passes_in_the_queue_is_a_deadline(server, clips):
    name = 'errors_total{class="DeadlineExceededError"}'
    before = server.metrics()
    with ThreadPoolExecutor(20) as pool:
        with video_being_decoded(server):
            asked = [pool.submit(ask_ensemble(server, clips), number) for number in range(20)]
            with pytest.raises(RejectedError, match="2 s; allow more time") as caught:
                server.send(clips["vfr"].read_bytes(), "When?", timeout_seconds=2, **DENSE)
        assert not [answer for one in asked if isinstance(answer := one.result(), str)]
    assert caught.value.code == "UNAVAILABLE"
    assert server.growth(before)[name] == 1
