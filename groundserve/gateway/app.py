"""The application, put together."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from groundserve._version import __version__
from groundserve.errors import GroundserveError
from groundserve.gateway import chat, routes
from groundserve.gateway.access import Access, OwnerDep
from groundserve.gateway.envelope import Envelope, Metrics
from groundserve.gateway.errors import error_response
from groundserve.gateway.jobs import Jobs
from groundserve.gateway.pictures import Pictures
from groundserve.gateway.settings import GatewaySettings
from groundserve.gateway.spool import Spool
from groundserve.gateway.upstreams import Upstreams
from groundserve.gateway.video_llms import VideoLlmClients
from groundserve.gateway.work import Desk
from groundserve.serving.events import log_event

_EXPIRE_SECONDS = 60.0


def create_app(settings: GatewaySettings) -> FastAPI:
    """Make the application; what is wrong with the settings is raised here.

    `app.state.gateway` is its `Desk`, `app.state.jobs` its `Jobs`.
    """
    metrics, spool = Metrics(), Spool(settings)
    upstreams = Upstreams(
        settings.upstreams, max_running=settings.max_running, max_waiting=settings.max_waiting
    )
    desk = Desk(
        settings=settings,
        access=Access(settings.keys_file),
        spool=spool,
        upstreams=upstreams,
        pictures=Pictures(settings),
        video_llms=VideoLlmClients(settings.video_llms),
    )
    jobs = Jobs(desk)
    _measure(metrics, desk)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        upstreams.open()
        jobs.open()
        expiry = asyncio.get_running_loop().create_task(_expire(spool))
        yield
        expiry.cancel()
        spool.is_closing = True
        await jobs.close()
        await upstreams.close()
        await desk.video_llms.close()
        desk.pictures.close()
        spool.close()

    app: FastAPI = FastAPIOffline(
        redoc_url=None,
        redirect_slashes=False,  # it would send callers to whatever host they name
        title="groundserve",
        version=__version__,
        lifespan=lifespan,
    )
    app.state.gateway, app.state.jobs = desk, jobs
    for kind in (GroundserveError, RequestValidationError, ValidationError, HTTPException):
        app.add_exception_handler(kind, _refuse)
    _add_health(app, metrics)
    for module in (routes, chat):
        app.include_router(module.router)
    if settings.has_page:
        from groundserve.gateway.page.mount import mount_page  # NiceGUI takes a second to import

        mount_page(app, desk, jobs)
    _add_middleware(app, settings, metrics)
    return app


def _add_middleware(app: FastAPI, settings: GatewaySettings, metrics: Metrics) -> None:
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["X-Request-Id", "Retry-After"],
        )
    if settings.keys_file is None:
        # A web page may have its own name lead here, and would then be read as our own.
        local = ["localhost", "127.0.0.1", settings.host]
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=local, www_redirect=False)
    app.add_middleware(Envelope, settings=settings, metrics=metrics)


async def _refuse(request: Request, error: Exception) -> Response:
    return error_response(error)


def _add_health(app: FastAPI, metrics: Metrics) -> None:
    @app.api_route("/healthz", methods=["GET", "HEAD"], include_in_schema=False)
    async def healthz() -> Response:
        return JSONResponse({"live": True})

    @app.api_route("/readyz", methods=["GET", "HEAD"], include_in_schema=False)
    async def readyz(request: Request) -> Response:
        is_ready = bool(request.app.state.gateway.upstreams.ready)
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    @app.get("/metrics", include_in_schema=False)
    async def tell_metrics(owner: OwnerDep) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _measure(metrics: Metrics, desk: Desk) -> None:
    upstreams, store = desk.upstreams, desk.spool.store
    metrics.gauge("ready_upstreams", "Servers ready.", lambda: len(upstreams.ready))
    metrics.gauge("waiting_requests", "Requests waiting.", lambda: upstreams.num_waiting)
    metrics.gauge("stored_bytes", "Bytes of the videos kept.", store.video_bytes)
    settings = desk.settings
    metrics.gauge("max_stored_bytes", "Most that they may have.", lambda: settings.max_spool_bytes)
    metrics.gauge(
        "free_bytes",
        "Bytes free on the disk where they are.",
        lambda: shutil.disk_usage(settings.spool_dir).free,
    )
    for status in ("queued", "running", "done", "failed"):
        metrics.gauge(
            f"jobs_{status}",
            f"Jobs {status}.",
            lambda status=status: store.count_jobs().get(status, 0),
        )


async def _expire(spool: Spool) -> None:
    while True:
        try:
            spool.expire()
        except (OSError, sqlite3.Error):  # it may work the next time
            log_event("expiry_failed", level=logging.ERROR)
        await asyncio.sleep(_EXPIRE_SECONDS)
