"""Model processes that have no file descriptor left say so, and go on when they have one."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import psutil
import pytest

from groundserve.serving import TritonServer
from tests.triton.protocol import Protocol, RejectedError, texts


def test_requests_are_unavailable_meanwhile(engine_dirs, clips, tmp_path):
    clip = clips["carphone_pristine"].resolve()
    inputs = {"VIDEO_URI": texts(clip.as_uri()), "QUERY": texts("When?")}
    with TritonServer(
        engine_dirs["cpu"],
        http_port=0,
        grpc_port=0,
        metrics_port=0,
        allowed_roots=[clip.parent],
        log_file=tmp_path / "log",
    ) as server:
        protocol = Protocol("grpc", server.grpc_address)
        before = {}
        for stub in server.stubs():
            if Path(psutil.Process(stub.pid).cmdline()[1]).parts[-3] == "video_features":
                before[stub.pid] = resource.prlimit(stub.pid, resource.RLIMIT_NOFILE)
                num_open = len(os.listdir(f"/proc/{stub.pid}/fd"))
                resource.prlimit(stub.pid, resource.RLIMIT_NOFILE, (num_open, before[stub.pid][1]))
        for _ in before:  # the first request of each process did more than the next
            with pytest.raises(RejectedError) as caught:
                protocol.infer("video_features", inputs)
            assert caught.value.code == "UNAVAILABLE"
            assert "the server has no file descriptor left; try again later" in caught.value.message
            assert "importlib" not in caught.value.message
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        assert protocol.infer("videoitg", inputs)["FRAME_LOGITS"].shape[0] == 1
        protocol.client.close()
