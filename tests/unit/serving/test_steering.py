"""Servers of this test's own at one port: who gets the connections while one takes over."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack

import pytest

from groundserve.errors import UnavailableError
from groundserve.serving import TritonServer
from groundserve.serving import steering as module
from groundserve.serving.sockets import sockets_of
from groundserve.serving.steering import Steering

LISTEN = """
import socket, sys, threading
name, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def serve(listener):
    kept = []
    while True:
        connection = listener.accept()[0]
        connection.sendall(name.encode())
        kept.append(connection)
for _ in range(count):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    port = listener.getsockname()[1]
    listener.listen()
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
print(port, flush=True)
sys.stdin.read()
"""


class Listener:
    """A process that listens at a port with a number of sockets, and sends its name."""

    def __init__(self, name: str, port: int, num_sockets: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", LISTEN, name, str(port), str(num_sockets)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.port = int(self.process.stdout.readline())

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def answers(port: int, number: int = 30) -> Counter[str]:
    """Connect so many times; who answered how often."""
    found = Counter()
    for _ in range(number):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            found[connection.recv(1).decode() or "closed"] += 1
    return found


@pytest.fixture(params=[1, 3])
def num_sockets(request) -> int:
    return request.param


@pytest.fixture
def listen(num_sockets):
    with ExitStack() as stack:

        def start(name: str, port: int = 0) -> Listener:
            return stack.enter_context(Listener(name, port, num_sockets))

        yield start


def place(listener: Listener) -> Steering:
    (found,) = Steering.of(listener.process.pid, listener.port)
    return found


def take_over(old: Listener, new: Listener) -> None:
    place(old).to(new.process.pid)
    assert answers(old.port) == {"b": 30}
    with place(old).while_closing():
        old.end()
        assert answers(new.port) == {"b": 30}
    assert answers(new.port) == {"b": 30}


def test_who_listens_keeps_connections_until_they_are_steered_elsewhere(listen):
    old = listen("a")
    place(old).keep()
    new = listen("b", old.port)
    assert answers(old.port) == {"a": 30}
    take_over(old, new)
    assert old.port not in {each.port for each in sockets_of(os.getpid())}


def test_servers_that_start_at_once_at_one_port_do_not_share_it(listen, tmp_path):
    one = listen("a")
    server = TritonServer(tmp_path, http_port=one.port, grpc_port=0, metrics_port=0)
    server._process = one.process
    server._check_ports()
    other = listen("b", one.port)
    with pytest.raises(UnavailableError, match=f"another server .* 127.0.0.1:{one.port} at the"):
        server._check_ports()
    server._predecessor = TritonServer(tmp_path, http_port=0, grpc_port=0, metrics_port=0)
    server._predecessor._process = other.process
    server._check_ports()


def test_new_server_that_dies_leaves_connections_to_the_old(listen):
    old = listen("a")
    place(old).keep()
    new = listen("b", old.port)
    place(old).to(new.process.pid)
    new.end()
    assert answers(old.port) == {"a": 30}


def test_kernel_that_cannot_steer_is_an_error(listen, monkeypatch):
    old = listen("a")
    monkeypatch.setattr(module, "_SO_ATTACH_REUSEPORT_CBPF", 9999)
    with pytest.raises(UnavailableError, match="does not let connections be steered: Protocol not"):
        place(old).keep()
    assert answers(old.port) == {"a": 30}
