"""An interpreter that has no vLLM, and a server of a few lines in its place."""

from __future__ import annotations

import sys
from pathlib import Path

_SERVER = """
import http.server, os, socketserver, subprocess, sys
fails = {fails!r} or (os.environ.get("VLLM_API_KEY") and "PermissionError: a key is wanted")
if "groundserve" not in os.environ.get("VLLM_PLUGINS", "groundserve").split(","):
    fails = "ValueError: no decoder"
if fails:
    print("(EngineCore pid=7) ERROR 11-24 15:06:40 [core.py:1] " + fails)
    sys.exit("RuntimeError: Engine core initialization failed. See root cause above.")
(path,) = [one.removeprefix("--uds=") for one in sys.argv if one.startswith("--uds=")]
subprocess.Popen([{python!r}, "-c", {child!r}])

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/is_sleeping" else 404)
        self.end_headers()

    def address_string(self):
        return "somebody"

with socketserver.ThreadingUnixStreamServer(path, Answer) as server:
    server.serve_forever()
"""
_CHILD = """
import time
from multiprocessing.shared_memory import SharedMemory
memory = SharedMemory(create=True, size=1)
print("memory:", memory.name, flush=True)
time.sleep(60)
"""
_INTERPRETER = """#!{python}
import sys
sys.path.insert(0, {folder!r})
program, sys.argv = sys.argv[3], ["-c", *sys.argv[4:]]
exec(program, {{"__name__": "__main__"}})
"""


def make_stand_in(folder: Path, *, fails: str = "") -> Path:
    """Return an interpreter whose vLLM answers `/is_sleeping`, or ends at once with an error."""
    package = folder / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    text = _SERVER.format(python=sys.executable, fails=fails, child=_CHILD)
    (package / "api_server.py").write_text(text)
    interpreter = folder / "stand-in"
    interpreter.write_text(_INTERPRETER.format(python=sys.executable, folder=str(folder)))
    interpreter.chmod(0o700)
    return interpreter
