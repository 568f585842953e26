"""`groundserve gateway`: HTTP in front of servers; `groundserve gateway-key`: who may call it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from groundserve.cli._gateway_options import GatewayOptions
from groundserve.cli._options import AsJson, grouped
from groundserve.cli._output import print_json, print_line
from groundserve.gateway.keys import add_key
from groundserve.serving.events import log_to_stderr

NAME, KEY_NAME = "gateway", "gateway-key"


@grouped
def command(
    upstream: Annotated[
        list[str], typer.Option(help="Server: grpc://HOST:PORT; may be given again.")
    ],
    host: Annotated[
        str, typer.Option(help="IPv4 address to listen on; any but loopback needs --keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 picks a free one.")] = 8080,
    *,
    gateway: GatewayOptions,
    as_json: AsJson = False,
) -> None:
    """Answer HTTP in front of one server or several, until Ctrl-C or SIGTERM.

    Example: [bold]groundserve gateway --upstream grpc://127.0.0.1:8001 --spool /data/spool[/bold]
    """
    log_to_stderr()
    server = gateway.server(host=host, port=port, upstreams=upstream)
    if as_json:
        print_json({"gateway": server.url})
    else:
        print_line(f"gateway {server.url}")
        print_line("Ctrl-C stops it")
    # uvicorn stops in order, and then raises the signal again, which would end this with -15.
    signal.signal(signal.SIGTERM, lambda *_: None)
    server.run()


def key_command(
    name: Annotated[str, typer.Argument(help="What logs call it, and whose things are.")],
    keys: Annotated[Path, typer.Option(help="File of API keys to add it to.")],
    requests_per_minute: Annotated[int, typer.Option(help="Most requests a minute.")] = 600,
    max_stored_bytes: Annotated[
        int, typer.Option(help="Most bytes of videos kept.", show_default="16 GiB")
    ] = 16 * 2**30,
    max_jobs: Annotated[int, typer.Option(help="Most requests and jobs at one time.")] = 16,
) -> None:
    """Make an API key and print it; the file keeps its hash alone.

    To take a key back, delete its line.
    """
    key = add_key(
        keys,
        name,
        requests_per_minute=requests_per_minute,
        max_stored_bytes=max_stored_bytes,
        max_jobs=max_jobs,
    )
    print_line(key)
