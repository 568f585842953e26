"""Start a tritonserver on an engine directory, and stop it without a trace."""

from __future__ import annotations

import http.client
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from groundserve.errors import UnavailableError
from groundserve.manifest import REPOSITORY_NAME, Manifest
from groundserve.serving.command import EXIT_TIMEOUT_SECONDS, HOST, Ports, server_command
from groundserve.serving.installation import find_installation, server_environment

_SHM_DIR = Path("/dev/shm")
_STOP_GRACE_SECONDS = EXIT_TIMEOUT_SECONDS + 10.0
_HEALTH_TIMEOUT_SECONDS = 5.0
_POLL_SECONDS = 0.1
_LOG_TAIL_LINES = 20


class TritonServer:
    """One server process, on loopback.

    Example:
        >>> with TritonServer("engines/", grpc_port=0) as server:
        ...     client = groundserve.Client(f"grpc://{server.grpc_address}")
    """

    def __init__(
        self,
        engine_dir: str | Path,
        *,
        http_port: int = 8000,
        grpc_port: int = 8001,
        metrics_port: int = 8002,
        allowed_roots: Sequence[str | Path] = (),
        log_file: str | Path | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            engine_dir: As `groundserve build` writes it.
            http_port: 0 picks a free one, here and below.
            grpc_port: Port of the gRPC API.
            metrics_port: Port of the metrics.
            allowed_roots: Folders below which `file:` URIs may point.
            log_file: File the server's log is appended to; stderr where None.
        """
        self._engine_dir = Path(engine_dir).resolve()
        self._ports = Ports(http=http_port, grpc=grpc_port, metrics=metrics_port)
        self._allowed_roots = [Path(root).resolve() for root in allowed_roots]
        self._log_file = Path(log_file) if log_file is not None else None
        self._shm_prefix = f"groundserve_{os.getpid()}_{secrets.token_hex(4)}_"
        self._backend_dir = tempfile.TemporaryDirectory(prefix="groundserve-backends-")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the server, None while there is none."""
        return self._process.pid if self._process else None

    @property
    def http_address(self) -> str:
        """HOST:PORT of the HTTP API."""
        return f"{HOST}:{self._ports.http}"

    @property
    def grpc_address(self) -> str:
        """HOST:PORT of the gRPC API."""
        return f"{HOST}:{self._ports.grpc}"

    @property
    def metrics_address(self) -> str:
        """HOST:PORT of the metrics."""
        return f"{HOST}:{self._ports.metrics}"

    def start(self, *, timeout_seconds: float = 600.0) -> None:
        """Start the server and wait until all models are loaded; if that fails, nothing is left.

        Raises:
            EngineMismatchError: The directory does not match its manifest or this version, or the
                server cannot work with this environment.
            InvalidRequestError: An allowed root is not a folder.
            MissingExtraError: No tritonserver is installed.
            UnavailableError: A port is taken, or the server ended or is not ready in time.
        """
        try:
            self._launch()
            self._wait_ready(timeout_seconds)
        except BaseException:
            self.stop()
            raise

    def wait(self) -> None:
        """Wait until the server ends by itself.

        Raises:
            UnavailableError: It did; with the end of its log.
        """
        if self._process is not None:
            self._process.wait()
        self.check_running()

    def check_running(self) -> None:
        """Look whether the server process lives.

        Raises:
            UnavailableError: It does not; with the end of its log.
        """
        status = self._process.poll() if self._process is not None else "unknown"
        if status is not None:
            raise UnavailableError(f"tritonserver ended with status {status}{self._log_tail()}")

    def stop(self) -> None:
        """End the server and all its processes and remove what they left; may be repeated."""
        process, self._process = self._process, None
        if process is not None:
            try:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_STOP_GRACE_SECONDS)
            finally:  # also at a second Ctrl-C, and then at once
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        for file in _SHM_DIR.glob(f"{self._shm_prefix}*"):
            file.unlink(missing_ok=True)
        self._backend_dir.cleanup()

    def __enter__(self) -> Self:
        """Start the server unless it is started."""
        if self._process is None:
            self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _launch(self) -> None:
        from python_backend.sources import ALLOWED_ROOTS_VARIABLE, parse_allowed_roots

        allowed_roots = os.pathsep.join(map(str, self._allowed_roots))
        parse_allowed_roots(
            allowed_roots
        )  # here the caller sees the error, in a model the log does
        Manifest.load(self._engine_dir).verify_files(self._engine_dir)
        installation = find_installation()
        self._ports = self._ports.reserve()
        command = server_command(
            installation.executable,
            model_repository=self._engine_dir / REPOSITORY_NAME,
            ports=self._ports,
            backend_dir=installation.link_backends(Path(self._backend_dir.name)),
            shm_prefix=self._shm_prefix,
            admin_secret=secrets.token_hex(32),
        )
        with open(self._log_file or sys.stderr.fileno(), "ab", closefd=bool(self._log_file)) as log:
            self._process = subprocess.Popen(
                command,
                # Models find modules through the working directory, which must not be the caller's.
                cwd="/",
                env=server_environment(installation, {ALLOWED_ROOTS_VARIABLE: allowed_roots}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C goes to this process alone, which then stops the server in order.
                start_new_session=True,
            )

    def _wait_ready(self, timeout_seconds: float) -> None:
        give_up_at = time.monotonic() + timeout_seconds
        while not self._is_ready():
            self.check_running()
            if time.monotonic() > give_up_at:
                raise UnavailableError(
                    f"tritonserver is not ready after {timeout_seconds:.6g} s{self._log_tail()}"
                )
            time.sleep(_POLL_SECONDS)

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(self.http_address, timeout=_HEALTH_TIMEOUT_SECONDS)
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _log_tail(self) -> str:
        if self._log_file is None:
            return "; its log is above"
        lines = self._log_file.read_text("utf-8", errors="replace").splitlines()
        return "\n".join(["; the end of its log:", *lines[-_LOG_TAIL_LINES:]])
