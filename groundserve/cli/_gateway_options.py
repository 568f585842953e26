"""Options that `groundserve gateway` and `groundserve serve --gateway` have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from groundserve.cli._options import FetchRules, made_of
from groundserve.extras import load

if TYPE_CHECKING:
    from groundserve.gateway.server import GatewayServer

_SPOOL = "~/.cache/groundserve/gateway"


@dataclass(frozen=True, kw_only=True)
class GatewayOptions:
    """Who may call, and what is kept."""

    keys: Annotated[
        Path | None,
        typer.Option(
            help="File of API keys, which groundserve gateway-key makes.",
            show_default="open to everybody, on loopback only",
        ),
    ] = None
    spool: Annotated[
        Path | None,
        typer.Option(
            help="Folder for uploads and jobs; servers must be allowed to read it.",
            show_default=_SPOOL,
        ),
    ] = None
    urls: FetchRules
    video_llms: Annotated[
        Path | None,
        typer.Option(
            "--video-llms",
            metavar="FILE",
            help="Models elsewhere that chat requests may name, a line of JSON each: "
            "docs/gateway.md.",
            show_default="none",
        ),
    ] = None
    page: Annotated[bool, typer.Option("--page/--no-page", help="Web page at /.")] = True
    batch_dir: Annotated[
        list[str] | None,
        typer.Option(
            help="Run directory of groundserve batch that the page shows; may be given again.",
            show_default="none",
        ),
    ] = None
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(help="Origin whose pages may call; may be given again.", show_default="none"),
    ] = None
    tls_certificate: Annotated[
        Path | None, typer.Option(help="Certificate for HTTPS, in PEM form.")
    ] = None
    tls_key: Annotated[Path | None, typer.Option(help="Key of --tls-certificate.")] = None
    max_video_bytes: Annotated[
        int, typer.Option(help="Largest video to take.", show_default="4 GiB")
    ] = 4 * 2**30
    max_spool_bytes: Annotated[
        int, typer.Option(help="Most bytes of all videos.", show_default="64 GiB")
    ] = 64 * 2**30
    max_age_seconds: Annotated[
        float, typer.Option(help="How long unused videos and finished jobs are kept.")
    ] = 86_400.0
    log_questions: Annotated[
        bool, typer.Option("--log-questions", help="Write questions into the log.")
    ] = False

    def server(self, *, host: str, port: int, upstreams: list[str]) -> GatewayServer:
        """Return a gateway that listens; InvalidRequestError where a setting is wrong."""
        load("groundserve.gateway.server", "gateway")
        from groundserve.gateway import server, settings, video_llms

        given = made_of(
            vars(self),
            settings.GatewaySettings,
            host=host,
            port=port,
            upstreams=tuple(upstreams),
            spool_dir=(self.spool or Path(_SPOOL)).expanduser(),
            keys_file=self.keys,
            has_page=self.page,
            batch_dirs=tuple(self.batch_dir or ()),
            cors_origins=tuple(self.cors_origin or ()),
            logs_questions=self.log_questions,
            allow_hosts=tuple(self.urls.allow_host or ()),
            allow_networks=tuple(self.urls.allow_network or ()),
            video_llms=video_llms.read_video_llms(self.video_llms) if self.video_llms else (),
        )
        return server.GatewayServer(given)
