"""`groundserve serve`: the Triton server on an engine directory."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from groundserve.cli._gateway_options import GatewayOptions
from groundserve.cli._options import VllmPython, grouped
from groundserve.cli._output import print_json, print_line, progress, say_error
from groundserve.engines.manifest import Manifest
from groundserve.gateway.local import LocalServers
from groundserve.scoring.gate_report import GateReport
from groundserve.serving import (
    Supervisor,
    TritonServer,
    serve_operations,
    sigterm_as_interrupt,
)
from groundserve.serving.events import log_event, log_to_stderr
from groundserve.serving.installation import check_host, find_installation
from groundserve.serving.ports import check_ports
from groundserve.serving.status import StatusBoard
from python_backend.sources import parse_allowed_roots


@grouped
def command(
    engines: Annotated[Path, typer.Option(help="Engine directory.")],
    host: Annotated[
        str, typer.Option(help="IPv4 address to listen on; put a gateway in front of any other.")
    ] = "127.0.0.1",
    http_port: Annotated[
        int | None, typer.Option(help="HTTP port; 0 picks a free one. No HTTP when left out.")
    ] = None,
    grpc_port: Annotated[int, typer.Option(help="gRPC port; 0 picks a free one.")] = 8001,
    metrics_port: Annotated[
        int, typer.Option(help="Port of metrics and health; 0 picks a free one.")
    ] = 8002,
    metrics_host: Annotated[
        str | None,
        typer.Option(help="IPv4 address of metrics and health.", show_default="that of --host"),
    ] = None,
    allow_root: Annotated[
        list[Path] | None,
        typer.Option(help="Directory whose files VIDEO_URI may name; may be given again."),
    ] = None,
    cache_dir: Annotated[
        Path | None, typer.Option(help="Directory of the feature cache; no cache when left out.")
    ] = None,
    cache_bytes: Annotated[
        int | None, typer.Option(help="Most bytes in the feature cache.", show_default="8 GiB")
    ] = None,
    max_server_memory: Annotated[
        int | None,
        typer.Option(
            help="Bytes of its own that tritonserver may hold before it is started again.",
            show_default="largest requests at once + 4 GiB",
        ),
    ] = None,
    log_file: Annotated[
        Path | None, typer.Option(help="Triton's log; stderr when left out.")
    ] = None,
    vllm_python: VllmPython = None,
    gateway: Annotated[
        int | None,
        typer.Option(
            help="Port of HTTP for users (docs/gateway.md); 0 picks a free one. SIGHUP then "
            "switches to the engines that are there by now.",
            show_default="no gateway",
        ),
    ] = None,
    gateway_host: Annotated[
        str, typer.Option(help="IPv4 address of --gateway; any but loopback needs --keys.")
    ] = "127.0.0.1",
    *,
    users: GatewayOptions,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the addresses as JSON when ready.")
    ] = False,
) -> None:
    """Serve an engine directory until Ctrl-C or SIGTERM; what dies meanwhile is started again.

    Example: [bold]groundserve serve --engines ./engines --allow-root /data/videos[/bold]
    """
    log_to_stderr()
    if Manifest.load(engines).device == "cuda" and GateReport.load(engines) is None:
        say_error("warning: these engines were never compared with PyTorch (--unchecked)")
    # Of these three ports one is opened here, before the server looks at the others and the host.
    check_ports(http=http_port, grpc=grpc_port, metrics=metrics_port)
    check_host(find_installation(), host)
    roots = [str(root.absolute()) for root in allow_root or []]
    parse_allowed_roots(os.fsencode(os.pathsep.join(roots)))
    door = None
    if gateway is not None:
        door = users.server(host=gateway_host, port=gateway, upstreams=[])
        roots.append(str(door.videos_dir))
    make = partial(
        TritonServer,
        engines,
        host=host,
        metrics_port=0,
        allowed_roots=roots,
        cache_dir=cache_dir,
        cache_bytes=cache_bytes,
        max_server_memory=max_server_memory,
        log_file=log_file,
    )
    server = make(http_port=http_port, grpc_port=grpc_port)
    board = StatusBoard()
    board.report("server", "tritonserver is starting")
    with (
        sigterm_as_interrupt(),
        suppress(KeyboardInterrupt),
        serve_operations(
            metrics_host or host,
            metrics_port,
            board=board,
            metrics_address=lambda: server.metrics_address,
        ) as operations,
        ExitStack() as stack,
    ):
        stack.callback(server.stop)
        with progress("starting tritonserver", write=_log_step):
            server.start()
        board.clear("server")
        # Before anybody is told: what dies from here on is seen.
        if door is None:
            supervisor = Supervisor(server, board)
            _print_addresses(server, operations, as_json)
            supervisor.run()
        else:
            stack.enter_context(door.running())
            others = partial(make, http_port=None if http_port is None else 0, grpc_port=0)
            servers = LocalServers(door, others, board)
            stack.callback(servers.stop)
            signal.signal(signal.SIGHUP, servers.want_switch)
            servers.begin(server)
            _print_addresses(server, operations, as_json, gateway=door.url)
            servers.watch()


def _log_step(step: str, seconds: float) -> None:
    log_event("step", step=step, seconds=round(seconds, 1))


def _print_addresses(server: TritonServer, operations: str, as_json: bool, **others: str) -> None:
    addresses = {
        **others,
        **({"http": f"http://{server.http_address}"} if server.http_address else {}),
        "grpc": f"grpc://{server.grpc_address}",
        "metrics": f"http://{operations}/metrics",
        "health": f"http://{operations}/health/ready",
    }
    if as_json:
        print_json({"ready": True, "pid": server.pid, **addresses})
    else:
        for name, address in addresses.items():
            print_line(f"{name:8}{address}")
        print_line("ready; Ctrl-C stops it")
