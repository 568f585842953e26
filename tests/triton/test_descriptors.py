"""Model processes that have no file descriptor left say so, and go on when they have one."""

from __future__ import annotations

import os
import resource

import pytest

from tests.triton.protocol import Protocol, RejectedError, texts


def test_requests_are_unavailable_meanwhile(harmed, video_root):
    video = video_root / "carphone.mp4"
    inputs = {"VIDEO_URI": texts(video.as_uri()), "QUERY": texts("When?")}
    old = harmed.triton.stubs()
    harmed.triton.reload_model("video_features")  # processes that have opened nothing yet
    protocol = Protocol("grpc", harmed.triton.grpc_address)
    before = {}
    for stub in harmed.triton.stubs() - old:
        if stub.model == "video_features":
            before[stub.pid] = resource.prlimit(stub.pid, resource.RLIMIT_NOFILE)
            are_open = {int(name) for name in os.listdir(f"/proc/{stub.pid}/fd")}
            next_number = min(set(range(len(are_open) + 1)) - are_open)
            resource.prlimit(stub.pid, resource.RLIMIT_NOFILE, (next_number, before[stub.pid][1]))
    try:
        for _ in before:  # the first request of each process did more than the next
            with pytest.raises(RejectedError) as caught:
                protocol.infer("video_features", inputs)
            assert caught.value.code == "UNAVAILABLE"
            assert "the server has no file descriptor left; try again later" in caught.value.message
            assert "importlib" not in caught.value.message
    finally:
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    assert protocol.infer("videoitg", inputs)["FRAME_LOGITS"].shape[0] == 1
    protocol.client.close()
