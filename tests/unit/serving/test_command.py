from __future__ import annotations

import socket
from pathlib import Path

import pytest

from groundserve.limits import Limits
from groundserve.serving import TritonServer
from groundserve.serving.command import largest_http_body, server_command
from tests.unit.serving.test_memory import needs_of


def command(*, http: int | None = None, has_pools: bool = False, limits_http: bool = True):
    return server_command(
        Path("/bin/tritonserver"),
        model_repository=Path("/engines/model_repository"),
        host="127.0.0.1",
        ports={"grpc": 2, "metrics": 3} | ({"http": http} if http else {}),
        backend_dir=None,
        shm_prefix="prefix_",
        memory=needs_of(),
        has_pools=has_pools,
        admin_secret="secret",
        limits_http=limits_http,
    )


def test_pools_are_for_a_gpu():
    needs = needs_of()
    assert command(has_pools=True) == [
        *command(),
        f"--cuda-memory-pool-byte-size=0:{needs.cuda_pool_bytes}",
        f"--pinned-memory-pool-byte-size={needs.pinned_pool_bytes}",
    ]


@pytest.mark.parametrize("limits_http", [True, False])
def test_http_is_opened_only_when_asked_for(limits_http):
    closed, opened = command(), command(http=1, limits_http=limits_http)
    assert [word for word in closed if "http" in word] == ["--allow-http=false"]
    assert {"--http-port=1", "--http-address=127.0.0.1"} <= set(opened)
    body = f"--http-max-input-size={largest_http_body(Limits())}"
    assert (body in opened) == limits_http


def test_largest_http_body_holds_the_largest_request():
    limits = Limits(max_upload_bytes=100, max_queries=2, max_query_bytes=10, max_options_bytes=3)
    assert largest_http_body(limits) == 100 + 2 * 10 + 3 + 1024**2


def test_port_of_the_metrics_that_nobody_chose_may_be_taken_before_a_restart(tmp_path):
    server = TritonServer(tmp_path, grpc_port=0, metrics_port=0)
    server._reserve_ports()
    grpc, metrics = server.grpc_address, server.metrics_address
    with socket.create_server(("127.0.0.1", int(metrics.rpartition(":")[2]))):
        server._reserve_ports()
    assert server.grpc_address == grpc
    assert server.metrics_address != metrics
