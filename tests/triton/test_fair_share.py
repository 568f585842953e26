"""Costly videos hold a part of a real server; here every video counts as one."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import numpy as np
import psutil

from tests.triton.protocol import RejectedError
from tests.triton.serve import media_workers

NUM_SEATS = 3
"""All but one of the videos that `front` reads at one time."""


def test_costly_video_too_many_is_refused_at_once_and_the_others_take_turns(limited, clips):
    video, before = clips["carphone_pristine"], limited.metrics()

    def ask(_: object):
        try:
            return limited.ask(video, "When?", num_frames=8)
        except RejectedError as rejection:
            return rejection

    def decoders() -> list[psutil.Process]:
        (front,) = (stub.pid for stub in limited.triton.stubs() if stub.model == "front")
        return [worker for worker in media_workers(limited) if worker.ppid() != front]

    limited.ask(video, "When?", num_frames=8)  # starts a decoder
    with ThreadPoolExecutor(NUM_SEATS + 1) as pool:
        for worker in decoders():
            worker.suspend()
        asked = [pool.submit(ask, None) for _ in range(NUM_SEATS + 1)]
        while not wait(asked, timeout=0.05, return_when=FIRST_COMPLETED).done:
            for worker in decoders():  # one that was started meanwhile
                worker.suspend()
        for worker in decoders():
            worker.resume()
        answers = [one.result() for one in asked]
    (refusal,) = (one for one in answers if isinstance(one, RejectedError))
    assert refusal.code == "UNAVAILABLE"
    assert f"{NUM_SEATS} of more than 1e-09 are read; try again later" in refusal.message
    answers = [one for one in answers if one is not refusal]
    for answer in answers[1:]:
        for name in answer.keys() - {"INFO"}:
            np.testing.assert_array_equal(answer[name], answers[0][name], strict=True)
    num_frames = len(answers[0]["FRAME_INDICES"]) * (NUM_SEATS + 1)  # with that before them
    assert limited.growth(before)["frames_decoded_total"] == num_frames
