"""A server that speaks as much of the hub's protocol as a download needs."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """One repository; files above 1,000 bytes are in LFS, as large ones are."""

    def __init__(self, hub_id: str, files: dict[str, bytes]):
        self.files = files
        self.listed = dict(files)
        """What the hub says that its files are."""
        self.num_breaks = 0
        """How often the connection of a large file still breaks, after half of it."""
        self.asked: list[tuple[str, str, str | None]] = []
        """Method, path and Range of each request."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                self.do_GET()

            def do_GET(self):
                hub.asked.append((self.command, self.path, self.headers["Range"]))
                if re.match(rf"/api/models/{hub_id}(/revision/\w+)?(\?|$)", self.path):
                    self._answer(200, json.dumps(hub.info(hub_id)).encode())
                elif self.path.startswith(f"/api/models/{hub_id}/tree/{COMMIT}"):
                    self._answer(200, json.dumps(hub.tree()).encode())
                elif found := re.match(rf"/{hub_id}/resolve/{COMMIT}/([^?]+)", self.path):
                    self._file(hub.files[found[1]], hub.listed[found[1]])
                else:
                    self._answer(404, b"{}")

            def _file(self, data, listed):
                headers = {"ETag": f'"{hub.etag(listed)}"', "X-Repo-Commit": COMMIT}
                headers["Accept-Ranges"] = "bytes"
                if hub.num_breaks and len(data) > 1000 and self.command == "GET":
                    hub.num_breaks -= 1
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data[: len(data) // 2])
                    self.close_connection = True
                    return
                start = int((self.headers["Range"] or "bytes=0-")[6:].partition("-")[0])
                if self.headers["Range"] and self.command == "GET":
                    headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
                    self._answer(206, data[start:], headers)
                else:
                    self._answer(200, data, headers)

            def _answer(self, status, body, headers=None):
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def info(self, hub_id: str) -> dict:
        siblings = []
        for name, data in self.listed.items():
            one = {"rfilename": name, "size": len(data), "blobId": _blob(data)}
            if len(data) > 1000:
                one["lfs"] = {"sha256": _sha256(data), "size": len(data), "pointerSize": 130}
            siblings.append(one)
        return {"id": hub_id, "modelId": hub_id, "sha": COMMIT, "siblings": siblings, "tags": []}

    def tree(self) -> list[dict]:
        entries = []
        for name, data in self.listed.items():
            one = {"type": "file", "path": name, "size": len(data), "oid": _blob(data)}
            if len(data) > 1000:
                one["lfs"] = {"oid": _sha256(data), "size": len(data), "pointerSize": 130}
            entries.append(one)
        return entries

    def etag(self, data: bytes) -> str:
        return _sha256(data) if len(data) > 1000 else _blob(data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
