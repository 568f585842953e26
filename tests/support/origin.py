"""A web server of one test, on loopback: each path has a function that writes to the connection."""

import socket
import threading
from contextlib import ExitStack, suppress


class Origin:
    """Answers each connection once, in a thread of its own, and counts them."""

    def __init__(self, answers, *, host="127.0.0.1", wrap=lambda connection: connection):
        self.answers = answers
        self.requests: list[bytes] = []
        self.is_over = threading.Event()
        self._wrap = wrap
        self._socket = socket.create_server((host, 0))
        self.host = host
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def url(self, path: str = "/a.mp4", *, host: str = "", scheme: str = "http") -> str:
        return f"{scheme}://{host or self.host}:{self.port}{path}"

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with suppress(OSError), ExitStack() as stack:
            stack.enter_context(connection)
            connection = self._wrap(connection)
            stack.enter_context(connection)
            request = b""
            while b"\r\n\r\n" not in request and (piece := connection.recv(65536)):
                request += piece
            self.requests.append(request)
            if not request:
                return
            answer = self.answers.get(request.split()[1].decode(), NOT_FOUND)
            if callable(answer):
                answer(connection)
            else:
                connection.sendall(answer)
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self._socket.close()


def whole(content: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


def redirect(location: str, status: str = "302 Found") -> bytes:
    return whole(b"", f"Location: {location}", status=status)


NOT_FOUND = whole(b"secret of upstream", status="404 Not Found")
