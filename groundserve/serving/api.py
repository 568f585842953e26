"""The server's gRPC API, as far as its keeper needs it: health, and loading models."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from groundserve.errors import UnavailableError
from groundserve.serving.command import ADMIN_HEADER

if TYPE_CHECKING:
    import grpc

_PING_SECONDS = 60.0
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
        """Connect when something is asked; the secret opens the API that loads models."""
        # Here: what only finds or describes a server needs no gRPC.
        import grpc
        from tritonclient.grpc import service_pb2, service_pb2_grpc

        self._errors, self._timed_out = grpc.RpcError, grpc.FutureTimeoutError
        self._messages = service_pb2
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._server = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._metadata = ((f"triton-grpc-protocol-{ADMIN_HEADER}", admin_secret),)

    def close(self) -> None:
        """Disconnect."""
        self._channel.close()

    def ping(self) -> grpc.Future:
        """Ask for its health; the call is done without an exception when it answers."""
        return self._server.ServerReady.future(self._messages.ServerReadyRequest(), _PING_SECONDS)

    def is_ready(self, timeout_seconds: float) -> bool:
        """Tell whether it answers and has all models loaded; says nothing about their stubs."""
        with suppress(self._errors, self._timed_out):
            return bool(self.ping().result(timeout_seconds).ready)
        return False

    def unload_model(self, name: str) -> None:
        """Unload a model; requests that its stubs work on go on there."""
        request = self._messages.RepositoryModelUnloadRequest(model_name=name)
        unload = self._server.RepositoryModelUnload.future
        self.finish(unload(request, _LOAD_SECONDS, self._metadata), f"unload the model {name}")

    def begin_load(self, name: str) -> grpc.Future:
        """Begin to load a model that is not loaded; an ensemble of it comes back by itself."""
        request = self._messages.RepositoryModelLoadRequest(model_name=name)
        return self._server.RepositoryModelLoad.future(request, _LOAD_SECONDS, self._metadata)

    def finish(self, call: grpc.Future, action: str) -> None:
        """Wait for a call, or raise UnavailableError that says why it could not be done."""
        try:
            call.result()
        except self._errors as error:
            raise UnavailableError(f"cannot {action}: {error.details()}") from error
