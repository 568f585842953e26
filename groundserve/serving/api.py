"""The server's gRPC API, as far as its keeper needs it: health, and loading models.

A signal is never handled inside gRPC: the KeyboardInterrupt would come while gRPC holds one of its
locks, and whoever takes that next, such as `close`, would wait for ever. So all its calls are short
steps, and waiting is done between them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from groundserve import extras
from groundserve.errors import UnavailableError
from groundserve.serving.command import ADMIN_HEADER
from groundserve.serving.signals import signals_deferred

if TYPE_CHECKING:
    import grpc

_PING_SECONDS = 60.0
_POLL_SECONDS = 0.02
# As long as a server may take to start: a load copies an engine's weights to the GPU.
_LOAD_SECONDS = 600.0
_OPTIONS = [
    # This server alone, on this machine: no proxy, no connection shared with a `Client`'s.
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    # A server that starts refuses connections at first.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 100),
]


class ServerApi:
    """One server process, over one connection."""

    def __init__(self, address: str, admin_secret: str) -> None:
        triton = extras.tritonclient.grpc
        self._errors = extras.grpc.RpcError
        self._messages = triton.service_pb2
        with signals_deferred():
            self._channel = extras.grpc.insecure_channel(address, options=_OPTIONS)
            self._server = triton.service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._metadata = ((f"triton-grpc-protocol-{ADMIN_HEADER}", admin_secret),)

    @signals_deferred()
    def close(self) -> None:
        """Disconnect."""
        self._channel.close()

    @signals_deferred()
    def ping(self) -> grpc.Future:
        """Ask for its health; the call is done without an exception when it answers."""
        return self._server.ServerReady.future(self._messages.ServerReadyRequest(), _PING_SECONDS)

    @signals_deferred()
    def is_done(self, call: grpc.Future) -> bool:
        """Tell whether a call is answered, or has failed."""
        return bool(call.done())

    @signals_deferred()
    def has_answered(self, call: grpc.Future) -> bool:
        """Tell whether a call is done without an exception; one that is not is given up."""
        has_answered = call.done() and call.exception() is None
        call.cancel()
        return bool(has_answered)

    def is_ready(self, timeout_seconds: float) -> bool:
        """Tell whether it answers and has all models loaded; says nothing about their stubs."""
        call = self.ping()
        give_up_at = time.monotonic() + timeout_seconds
        while not self.is_done(call) and time.monotonic() < give_up_at:
            time.sleep(_POLL_SECONDS)
        return self.has_answered(call) and bool(call.result().ready)

    def unload_model(self, name: str) -> None:
        """Unload a model; requests that its stubs work on go on there."""
        request = self._messages.RepositoryModelUnloadRequest(model_name=name)
        with signals_deferred():
            call = self._server.RepositoryModelUnload.future(request, _LOAD_SECONDS, self._metadata)
        self.finish(call, f"unload the model {name}")

    @signals_deferred()
    def begin_load(self, name: str) -> grpc.Future:
        """Begin to load a model that is not loaded; an ensemble of it comes back by itself."""
        request = self._messages.RepositoryModelLoadRequest(model_name=name)
        return self._server.RepositoryModelLoad.future(request, _LOAD_SECONDS, self._metadata)

    def finish(self, call: grpc.Future, action: str) -> None:
        """Wait for a call, or raise UnavailableError that says why it could not be done."""
        while not self.is_done(call):
            time.sleep(_POLL_SECONDS)
        try:
            with signals_deferred():
                call.result()
        except self._errors as error:
            raise UnavailableError(f"cannot {action}: {error.details()}") from error
