"""Clients and a gRPC server: a proxy cuts the connection while a call is on its way; TLS."""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2

from groundserve import AsyncClient, Client, InvalidRequestError, MediaError, UnavailableError

METHOD = "/inference.GRPCInferenceService/ModelInfer"
CUT_AT = b"front"
"""The name of the model: bytes of a request, and of nothing else on a connection."""
RESET = struct.pack("ii", 1, 0)
"""For SO_LINGER: to close is to reset."""


class Server(grpc.GenericRpcHandler):
    """Counts what it is asked, and finds fault with every video."""

    num_asked = 0
    metadata: tuple[tuple[str, str], ...] = ()

    def service(self, details: Any) -> Any:
        assert details.method == METHOD
        return grpc.unary_unary_rpc_method_handler(
            self._infer,
            request_deserializer=service_pb2.ModelInferRequest.FromString,
            response_serializer=service_pb2.ModelInferResponse.SerializeToString,
        )

    def _infer(self, request: Any, context: grpc.ServicerContext) -> None:
        self.num_asked += 1
        self.metadata = context.invocation_metadata()
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "MediaError: the video is empty")


class Proxy:
    """Hands connections on, and resets as many as it is told when a video is asked about."""

    def __init__(self, address: tuple[str, int], num_cuts: int) -> None:
        self.num_connections = 0
        self._address = address
        self._num_cuts = num_cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"grpc://127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in self._sockets:
            with suppress(OSError):  # cut already
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                self.num_connections += 1
                server = socket.create_connection(self._address)
                self._sockets += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._copy, args=pair, daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):  # cut
            while data := source.recv(2**16):
                if CUT_AT in data and self._num_cuts:
                    self._num_cuts -= 1
                    source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    sink.shutdown(socket.SHUT_RDWR)
                    source.close()
                    return
                sink.sendall(data)


@contextmanager
def proxied(num_cuts: int) -> Iterator[tuple[Server, Proxy]]:
    handler = Server()
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    proxy = Proxy(("127.0.0.1", port), num_cuts)
    try:
        yield handler, proxy
    finally:
        proxy.close()
        server.stop(None).wait()


def ask(url: str) -> None:
    with Client(url, timeout_seconds=30) as client:
        client.score(b"x", "x")


def ask_async(url: str) -> None:
    async def main() -> None:
        async with AsyncClient(url, timeout_seconds=30) as client:
            await client.score(b"x", "x")

    asyncio.run(main())


@pytest.mark.parametrize("score", [ask, ask_async])
def test_call_is_made_again_on_a_new_connection(score: Callable[[str], None]):
    with proxied(num_cuts=1) as (server, proxy):
        with pytest.raises(InvalidRequestError, match="video is empty"):
            score(proxy.url)
        assert server.num_asked == 1
        assert proxy.num_connections == 2


@pytest.mark.parametrize("score", [ask, ask_async])
def test_call_is_made_again_once(score: Callable[[str], None]):
    with proxied(num_cuts=2) as (server, proxy):
        with pytest.raises(UnavailableError) as caught:
            score(proxy.url)
        assert str(caught.value) == (
            f"the connection to {proxy.url} broke: the server may have ended; try again"
        )
        assert server.num_asked == 0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A certificate of this host's own, with its key beside it."""
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    key = path.with_name("key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=h", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-out", path, "-keyout", key], capture_output=True, check=True)
    return path


def test_tls_reaches_a_server_that_is_trusted_and_headers_go_with_the_call(certificate):
    handler, server = Server(), grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((handler,))
    pair = certificate.with_name("key.pem").read_bytes(), certificate.read_bytes()
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    plain = server.add_insecure_port("127.0.0.1:0")
    server.start()
    headers = {"Authorization": "Bearer of tidings"}
    try:
        for url, trusted, error, message in (
            (f"grpcs://127.0.0.1:{port}", certificate, MediaError, "the video is empty"),
            (f"grpcs://127.0.0.1:{port}", None, UnavailableError, "certificate is not one of"),
            (f"grpcs://127.0.0.1:{plain}", None, UnavailableError, "does not speak TLS"),
        ):
            client = Client(url, timeout_seconds=30, root_certificates=trusted, headers=headers)
            with client, pytest.raises(error, match=message):
                client.score(b"x", "x")
        assert ("authorization", "Bearer of tidings") in handler.metadata
        assert handler.num_asked == 1
    finally:
        server.stop(None).wait()
