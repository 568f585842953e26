"""Costly videos hold a part of a real server; here every video counts as one."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil
import pytest

from groundserve.deadline import Deadline
from python_backend.fair_share import SHARE_DIR_VARIABLE, FairShare
from tests.triton.protocol import Protocol, RejectedError, texts, upload
from tests.triton.serve import in_parallel


@pytest.fixture(scope="module")
def server(limited):
    return limited


@pytest.fixture(scope="module")
def share(server) -> FairShare:
    """The locks that the models of this server use."""
    directory = Path(psutil.Process(server.triton.pid).environ()[SHARE_DIR_VARIABLE])
    assert directory.stat().st_mode & 0o777 == 0o700
    return FairShare(directory=directory, num_seats=3, num_turns=1, light_pixels=1)


def test_costly_video_is_refused_at_once_where_all_seats_are_taken(server, share, clips):
    decoded = server.metrics()["frames_decoded_total"]
    with ExitStack() as stack:
        for _ in range(share.num_seats):
            stack.enter_context(share.admit(2, Deadline.after(1)))
        with pytest.raises(RejectedError) as caught:
            server.ask(clips["carphone_pristine"], "When?", num_frames=8)
    assert caught.value.code == "UNAVAILABLE"
    assert "3 of more than 1e-09 are read; try again later" in caught.value.message
    assert server.metrics()["frames_decoded_total"] == decoded


def test_costly_video_waits_for_its_turn_and_gives_the_same_bits(server, share, clips):
    def ask(_: int):
        return server.ask(clips["carphone_pristine"], "When?", num_frames=8)

    first, *others = in_parallel(3, ask, range(3))
    for other in others:
        for name in set(first) - {"INFO"}:
            np.testing.assert_array_equal(first[name], other[name], strict=True)
    with (
        share.admit(2, Deadline.after(1)) as turn,
        turn(),
        pytest.raises(RejectedError, match="did not finish within"),
    ):
        ask_for_a_second(server, clips)


def ask_for_a_second(server, clips) -> None:
    protocol = Protocol("grpc", server.triton.grpc_address)
    inputs = {
        "VIDEO": upload(clips["carphone_pristine"].read_bytes()),
        "QUERY": texts("When?"),
        "OPTIONS": texts('{"num_frames": 8}'),
    }
    try:
        protocol.infer("videoitg", inputs, timeout_microseconds=1_000_000)
    finally:
        protocol.client.close()
