from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from groundserve.limits import Limits
from groundserve.serving import TritonServer
from groundserve.serving.command import Ports, largest_http_body, server_command
from groundserve.serving.device_memory import MemoryPools
from groundserve.serving.shared_memory import RegionSizes

PORTS = Ports(http=1, grpc=2, metrics=3)
REGIONS = RegionSizes(
    default_bytes=5, growth_bytes=6, budgets={}, num_stubs={}, swappable=frozenset()
)


def command(backend_dir: Path | None = None, **options: Any) -> list[str]:
    return server_command(
        Path("/bin/tritonserver"),
        model_repository=Path("/engines/model_repository"),
        host="127.0.0.1",
        metrics_host="127.0.0.2",
        ports=PORTS,
        backend_dir=backend_dir,
        shm_prefix="prefix_",
        regions=REGIONS,
        admin_secret="secret",
        **options,
    )


def test_server_command_on_a_gpu():
    pools = MemoryPools(cuda_bytes=7, pinned_bytes=9)
    assert command(pools=pools) == [
        *command(),
        "--cuda-memory-pool-byte-size=0:7",
        "--pinned-memory-pool-byte-size=9",
    ]


def test_server_command_with_a_limit_of_bodies():
    assert command(http_max_input_bytes=5) == [*command(), "--http-max-input-size=5"]


def test_largest_http_body_holds_the_largest_request():
    limits = Limits(max_upload_bytes=100, max_queries=2, max_query_bytes=10, max_options_bytes=3)
    assert largest_http_body(limits) == 100 + 2 * 10 + 3 + 1024**2


def test_port_of_the_metrics_that_nobody_chose_may_be_taken_before_a_restart(tmp_path):
    server = TritonServer(tmp_path, http_port=0, grpc_port=0, metrics_port=0)
    server._reserve_ports()
    public, metrics = server.public_ports, server.metrics_address
    with socket.create_server(("127.0.0.1", int(metrics.rpartition(":")[2]))):
        server._reserve_ports()
    assert server.public_ports == public
    assert server.metrics_address != metrics
