"""An OpenAI-compatible endpoint that says what a script has, and keeps what it was asked."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ScriptedLlm:
    def __init__(self, *words: str, status: int = 200):
        self.words, self.status = words, status
        self.requests: list[dict] = []
        self.keys: list[str | None] = []
        llm = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                llm.requests.append(json.loads(body))
                llm.keys.append(self.headers["Authorization"])
                self.send_response(llm.status)
                self.end_headers()
                if llm.status != 200:
                    self.wfile.write(b'{"error": {"message": "secret of upstream"}}')
                    return
                for text in llm.words:
                    self._send(choices=[{"index": 0, "delta": {"content": text}}])
                self._send(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
                counts = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
                self._send(choices=[], usage=counts)
                self.wfile.write(b"data: [DONE]\n\n")

            def _send(self, **fields):
                chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
                self.wfile.write(f"data: {json.dumps({**chunk, **fields})}\n\n".encode())

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
