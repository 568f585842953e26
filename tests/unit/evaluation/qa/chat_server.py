"""A chat endpoint on loopback that answers as a script says, and misbehaves where it says so."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Request = dict[str, Any]


@dataclass(frozen=True)
class Act:
    """What is done with one request."""

    text: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """Sent as it is, in place of a reply in the chat format."""
    usage: tuple[int, int] | None = (100, 2)
    refusal: str | None = None
    finish_reason: str | None = "stop"
    cut: str | None = None
    """"body": ends inside the body; "close": says nothing and closes."""
    seconds: float = 0.0
    """Waits so long before it answers."""


Script = Callable[[Request], Act]


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away, as one does whose reply was cut."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class ChatServer:
    """The server; `requests` has all that came, in order."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.keys: list[str | None] = []
        self.headers: list[str] = []
        self.num_at_once = self.most_at_once = 0
        self._lock = threading.Lock()
        chat = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                request = json.loads(self.rfile.read(size))
                with chat._lock:
                    chat.requests.append(request)
                    chat.keys.append(self.headers["Authorization"])
                    chat.headers.append(str(self.headers).lower())
                try:
                    chat._act(self, request)
                except OSError:  # who asked has gone away
                    self.close_connection = True

            def log_message(self, *args: Any) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def _act(self, handler: BaseHTTPRequestHandler, request: Request) -> None:
        with self._lock:
            self.num_at_once += 1
            self.most_at_once = max(self.most_at_once, self.num_at_once)
        act = self.script(request) if handler.path == "/v1/chat/completions" else Act(status=404)
        time.sleep(act.seconds)
        with self._lock:  # before it is answered: the next request may come at once
            self.num_at_once -= 1
        if act.cut == "close":
            handler.close_connection = True
        elif act.status != 200 or act.body is not None:
            body = act.body if act.body is not None else json.dumps(_error(act)).encode()
            _send(handler, act, body, "application/json")
        else:
            _send(handler, act, json.dumps(_whole(act)).encode(), "application/json")

    def __enter__(self) -> ChatServer:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


chat_server = ChatServer


def text_of(request: Request) -> str:
    """What a request asks."""
    content = request["messages"][0]["content"]
    (text,) = (str(part["text"]) for part in content if part["type"] == "text")
    return text


def images_of(request: Request) -> list[str]:
    """Its pictures' URLs."""
    content = request["messages"][0]["content"]
    return [part["image_url"]["url"] for part in content if part["type"] == "image_url"]


def in_turn(*acts: Act) -> Script:
    """Do one after another, and the last for ever."""
    left = list(acts)
    lock = threading.Lock()

    def script(request: Request) -> Act:
        with lock:
            return left.pop(0) if len(left) > 1 else left[0]

    return script


def _send(handler: BaseHTTPRequestHandler, act: Act, body: bytes, kind: str) -> None:
    handler.send_response(act.status)
    for name, value in {"Content-Type": kind, **act.headers}.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[:10] if act.cut == "body" else body)
    handler.close_connection |= act.cut == "body"


def _error(act: Act) -> dict[str, Any]:
    return {"error": {"message": act.text or f"status {act.status}", "code": None}}


def _usage(act: Act) -> dict[str, int] | None:
    if act.usage is None:
        return None
    return {"prompt_tokens": act.usage[0], "completion_tokens": act.usage[1]}


def _whole(act: Act) -> dict[str, Any]:
    message = {"role": "assistant", "content": act.text, "refusal": act.refusal}
    choice = {"index": 0, "message": message, "finish_reason": act.finish_reason}
    return {"choices": [choice], "usage": _usage(act)}
