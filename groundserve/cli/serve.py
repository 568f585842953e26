"""`groundserve serve`: the Triton server on an engine directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from groundserve.cli._output import print_json, progress, stdout

NAME = "serve"


def command(
    engines: Annotated[Path, typer.Option(help="Engine directory.")],
    http_port: Annotated[int, typer.Option(help="HTTP port; 0 picks a free one.")] = 8000,
    grpc_port: Annotated[int, typer.Option(help="gRPC port; 0 picks a free one.")] = 8001,
    metrics_port: Annotated[int, typer.Option(help="Metrics port; 0 picks a free one.")] = 8002,
    allow_root: Annotated[
        list[Path] | None,
        typer.Option(help="Directory whose files VIDEO_URI may name; may be given again."),
    ] = None,
    log_file: Annotated[
        Path | None, typer.Option(help="Triton's log; stderr when left out.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the addresses as JSON when ready.")
    ] = False,
) -> None:
    """Serve an engine directory on loopback until Ctrl-C or SIGTERM.

    Example: [bold]groundserve serve --engines ./engines --allow-root /data/videos[/bold]
    """
    from groundserve.serving import TritonServer, wait_for_stop_signal

    server = TritonServer(
        engines,
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        allowed_roots=allow_root or [],
        log_file=log_file,
    )
    with progress("starting tritonserver"):
        server.start()
    with server:
        addresses = {
            "http": f"http://{server.http_address}",
            "grpc": f"grpc://{server.grpc_address}",
            "metrics": f"http://{server.metrics_address}/metrics",
        }
        if as_json:
            print_json({"ready": True, "pid": server.pid, **addresses})
        else:
            for name, address in addresses.items():
                stdout.print(f"{name:8}{address}", highlight=False)
            stdout.print("ready; Ctrl-C stops it")
        wait_for_stop_signal(server)
