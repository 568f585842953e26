"""Ordinary requests that end tritonserver 2.51: the service lives on and answers the next one."""

from __future__ import annotations

import pytest

from tests.support.aborts import ABORTS
from tests.triton.program import Serve


@pytest.fixture(scope="module")
def serve(service) -> Serve:
    return service


@pytest.mark.parametrize("name", ABORTS)
def test_request_that_ends_the_server_does_not_end_the_service(serve, clips, name):
    video = clips["carphone_pristine"]
    num_before = len(serve.events())
    ABORTS[name](serve.addresses["grpc"], serve.addresses["http"], video.read_bytes())
    serve.wait_for("server_died", after=num_before)
    serve.wait_for("server_restarted", after=num_before)
    serve.score_until_answered(video)
