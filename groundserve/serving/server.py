"""Start a tritonserver on an engine directory, and stop it without a trace."""

from __future__ import annotations

import logging
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil

from groundserve.engines.engine_use import mark_in_use
from groundserve.engines.manifest import REPOSITORY_NAME, Manifest
from groundserve.engines.tensorrt_library import TensorRTTarget
from groundserve.errors import EngineMismatchError, InvalidRequestError, UnavailableError
from groundserve.limits import Limits
from groundserve.runtime.processes import kill_processes, session_tree
from groundserve.serving import installation as triton
from groundserve.serving import processes
from groundserve.serving.api import ServerApi
from groundserve.serving.command import EXIT_TIMEOUT_SECONDS, LOOPBACK, server_command
from groundserve.serving.events import log_event
from groundserve.serving.memory import MemoryNeeds, check_room, memory_needs, read_configs
from groundserve.serving.ports import check_ports, reserve_ports
from groundserve.serving.processes import Stub
from groundserve.serving.run_folder import RunFolder, remove_dead
from groundserve.serving.settings import model_environment, open_log, reason_in_log
from groundserve.serving.signals import signals_deferred
from python_backend.generate.vllm_process import SOCKET_VARIABLE, VllmEngine

if TYPE_CHECKING:
    import grpc

_START_TIMEOUT_SECONDS = 600.0
# With what follows the wait, a stop takes less than the 10 s that container runtimes allow.
_STOP_GRACE_SECONDS = EXIT_TIMEOUT_SECONDS + 2.0
_HANGING_SECONDS = 10.0
_READY_TIMEOUT_SECONDS = 5.0
_POLL_SECONDS = 0.2


class TritonServer:
    """One server process; it dies with nobody to restart it unless a `Supervisor` watches.

    It ends with the thread that started it.
    """

    answers_later = frozenset({"front", "front_stream", "generation"})
    """Models whose processes take requests up and answer them later."""

    def __init__(
        self,
        engine_dir: str | Path,
        *,
        host: str = LOOPBACK,
        http_port: int | None = None,
        grpc_port: int = 8001,
        metrics_port: int = 8002,
        allowed_roots: Sequence[str | Path] = (),
        cache_dir: str | Path | None = None,
        cache_bytes: int | None = None,
        max_server_memory: int | None = None,
        log_file: str | Path | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            engine_dir: As `groundserve build` writes it.
            host: IPv4 address to listen on; loopback only with the wheel's server.
            http_port: The HTTP API is not opened where None; 0 picks a free one, as for all ports.
            grpc_port: Port of the gRPC API.
            metrics_port: Port of the metrics, on loopback: what others see is the keeper's.
            allowed_roots: Folders below which `file:` URIs may point.
            cache_dir: Folder of the feature cache; no cache where None.
            cache_bytes: Most bytes in it; the models' default where None.
            max_server_memory: Bytes that tritonserver itself may hold before a `Supervisor` starts
                it again; from the engines and the limits where None.
            log_file: File the server's log is appended to; stderr where None.

        Raises:
            InvalidRequestError: Two ports are the same, or a number is out of range.
        """
        self._engine_dir = Path(engine_dir).resolve()
        self._host = host
        check_ports(http=http_port, grpc=grpc_port, metrics=metrics_port)
        self._ports = {"grpc": grpc_port, "metrics": metrics_port}
        if http_port is not None:
            self._ports["http"] = http_port
        self._metrics_port = metrics_port
        self._allowed_roots = [Path(root).absolute() for root in allowed_roots]
        self._cache_dir = Path(cache_dir).absolute() if cache_dir is not None else None
        self._cache_bytes = cache_bytes
        if max_server_memory is not None and max_server_memory <= 0:
            rule = "max_server_memory (--max-server-memory) must be > 0"
            raise InvalidRequestError(f"{rule}, got {max_server_memory}")
        self.max_memory_bytes = max_server_memory or 0
        """What tritonserver itself may hold; 0 before `start` where nobody chose it."""
        self.num_stubs: Mapping[str, int] = {}
        """How many stubs each model is to have; none before `start`."""
        self._log_file = Path(log_file) if log_file is not None else None
        self.vllm: VllmEngine | None = None
        """vLLM's server, which outlives a restart of this one; None where no model calls it."""
        self._admin_secret = secrets.token_hex(32)
        self._installation: triton.TritonInstallation
        self._model_variables: Mapping[str, str]
        self._memory: MemoryNeeds
        self._run_folder: RunFolder
        self._api: ServerApi
        self._process: subprocess.Popen[bytes] | None = None
        self._left = ExitStack()  # to close and remove after the process has ended
        self._ping: grpc.Future | None = None
        self._engine_id = ""  # a restart or a load of anything else is refused

    @property
    def pid(self) -> int | None:
        """Process id of the server, None while there is none."""
        return self._process.pid if self._process else None

    @property
    def http_address(self) -> str | None:
        """HOST:PORT of the HTTP API; None where it is not opened."""
        return f"{self._host}:{self._ports['http']}" if "http" in self._ports else None

    @property
    def grpc_address(self) -> str:
        """HOST:PORT of the gRPC API."""
        return f"{self._host}:{self._ports['grpc']}"

    @property
    def metrics_address(self) -> str:
        """HOST:PORT of the metrics."""
        return f"{LOOPBACK}:{self._ports['metrics']}"

    def start(self, *, timeout_seconds: float = _START_TIMEOUT_SECONDS) -> None:
        """Start the server and wait until all models are loaded; if that fails, nothing is left.

        Raises:
            EngineMismatchError: The directory, this machine and the server do not go together.
            InvalidRequestError: A setting is wrong, or there is no engine directory.
            MissingExtraError: No tritonserver is installed.
            UnavailableError: A port is taken, shared memory is full, or the server ended or is not
                ready in time.
        """
        try:
            self._check()
            if self.vllm is not None:
                self.vllm.launch()
                self.vllm.wait_until_ready(timeout_seconds)
            self._boot(timeout_seconds)
        except BaseException:
            self.stop()
            raise

    def restart(self) -> None:
        """Start again at the same ports and with the same secret, after removing what is left.

        A port of the metrics that was picked at the start may become another. UnavailableError also
        where the engine directory was rebuilt meanwhile.
        """
        try:
            if self.is_running():  # what it still serves is not given up for nothing
                self.check_engines()
            self.stop(keep_vllm=True)
            self._boot()
        except EngineMismatchError as error:
            raise UnavailableError(str(error)) from error

    def is_running(self) -> bool:
        """Tell whether the server process lives."""
        return self._process is not None and self._process.poll() is None

    def stubs(self) -> set[Stub]:
        """Return the stubs that live."""
        return processes.find_stubs(self._process.pid) if self._process else set()

    def ping(self) -> bool:
        """Tell whether it answered the last ping, and send the next; True where there was none."""
        last, self._ping = self._ping, self._api.ping()
        return last is None or self._api.has_answered(last)

    def memory_bytes(self) -> int:
        """Return what tritonserver itself holds, without shared memory."""
        return processes.own_memory_bytes(self._process.pid) if self._process else 0

    def check_engines(self) -> Manifest:
        """Return the manifest, or raise EngineMismatchError: others are there than are served."""
        return Manifest.load_again(self._engine_dir, self._engine_id)

    def reload_model(self, name: str) -> None:
        """Load a model anew, with new stubs; requests on its other stubs go on.

        Raises:
            UnavailableError: It cannot be loaded, or the engine directory was rebuilt; then nothing
                was unloaded.
        """
        try:
            self.check_engines()
        except EngineMismatchError as error:
            raise UnavailableError(str(error)) from error
        # Loading alone does nothing while the model counts as loaded, as it does with dead stubs.
        self._api.unload_model(name)
        call = self._api.begin_load(name)
        self._wait_for_load(lambda: self._api.is_done(call))
        self._api.finish(call, f"load the model {name}")
        # 2.51 leaves the regions of stubs that are gone.
        living = {stub.region for stub in self.stubs()}
        for region in self._run_folder.regions():
            if region.name not in living:
                region.unlink(missing_ok=True)

    def end_process(self) -> None:
        """Kill tritonserver alone, as a crash would end it."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def stop(self, *, keep_vllm: bool = False) -> None:
        """End the server and all its processes and remove what they left; may be repeated.

        vLLM goes on where it is to be kept for a next start.
        """
        # Before the server ends: what has a session of its own is found by its parents alone.
        family = session_tree(self._process.pid) if self._process else set()
        try:
            if self._process is not None:
                self._process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_STOP_GRACE_SECONDS)
        finally:  # also at a second Ctrl-C, and then at once
            with signals_deferred():
                self._remove(family)
                if self.vllm is not None and not keep_vllm:
                    self.vllm.close()
                    self.vllm = None

    def __enter__(self) -> Self:
        """Start the server unless it is started."""
        if not self._process:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _remove(self, family: set[psutil.Process]) -> None:
        if self._process is not None:
            kill_processes(family | session_tree(self._process.pid))
            self._process.wait()
            self._process = self._ping = None
        # Last: a process that lives could make more of what this removes.
        self._left.close()

    def _check(self) -> None:
        self._installation = triton.find_installation()
        triton.check_host(self._installation, self._host)
        open_log(self._log_file).close()
        manifest = Manifest.load(self._engine_dir)
        self._engine_id = manifest.engine_id
        self._model_variables = model_environment(
            engine_id=self._engine_id,
            allowed_roots=self._allowed_roots,
            cache_dir=self._cache_dir,
            cache_bytes=self._cache_bytes,
        )
        triton.check_gpu(manifest, self._installation)
        if manifest.stages.grounder == "vllm":
            self.vllm = VllmEngine(self._engine_dir, log_file=self._log_file)
            socket_path = {SOCKET_VARIABLE: str(self.vllm.socket)}
            self._model_variables = {**self._model_variables, **socket_path}
        if manifest.builder["tensorrt"] is not None:
            TensorRTTarget.from_dict(manifest.builder["tensorrt"]).check_gpu()
        # After all that is quick to look at: it reads every byte of the engines.
        manifest.verify_files(self._engine_dir)
        # Before the room is counted: what a dead server left in /dev/shm is free afterwards.
        remove_dead()
        configs = read_configs(self._engine_dir / REPOSITORY_NAME)
        limits = Limits.from_environment()
        memory = self._memory = memory_needs(manifest.seam, manifest.model, configs, limits)
        check_room(memory.all_regions_bytes)
        self.num_stubs = memory.num_stubs
        self.max_memory_bytes = self.max_memory_bytes or memory.server_bytes
        if manifest.device == "cuda":
            log_event("gpu", pool_bytes=memory.cuda_pool_bytes, total_bytes=memory.gpu_bytes)

    def _boot(self, timeout_seconds: float = _START_TIMEOUT_SECONDS) -> None:
        try:
            self._launch()
            self._wait_for_load(self._is_ready, timeout_seconds)
            self.check_engines()  # plans that tritonserver reads itself, by another manifest
        except BaseException:
            self.stop(keep_vllm=True)
            raise

    def _launch(self) -> None:
        installation = self._installation
        # Before the manifest is read: a build that looks for users from now on finds this one.
        if (use := mark_in_use(self._engine_dir)) is not None:
            self._left.callback(use.close)
        manifest = self.check_engines()
        self._reserve_ports()
        run_folder = self._run_folder = RunFolder.create()
        self._left.callback(run_folder.remove)
        command = server_command(
            installation.executable,
            model_repository=self._engine_dir / REPOSITORY_NAME,
            host=self._host,
            ports=self._ports,
            backend_dir=installation.link_backends(run_folder.path / "backends"),
            shm_prefix=run_folder.region_prefix,
            memory=self._memory,
            has_pools=manifest.device == "cuda",
            admin_secret=self._admin_secret,
            limits_http=not installation.is_wheel,
        )
        # A signal between the start and the assignment would leave a server that nobody knows.
        with open_log(self._log_file) as log, signals_deferred():
            self._process = subprocess.Popen(
                # However this process ends: nobody else would end the server.
                processes.ending_with_parent(command),
                # Models find modules through the working directory: not the caller's.
                cwd="/",
                env=triton.server_environment(installation, self._model_variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C goes to this process alone, which then stops the server in order; and the
                # session tells whose the processes are that a dead server leaves.
                start_new_session=True,
                # Questions, videos and features pass through the files that it makes.
                umask=0o077,
                pass_fds=[run_folder.lock_fd],
            )
        # 0.0.0.0 is a place to listen at, none to connect to on every system.
        host = LOOPBACK if self._host == "0.0.0.0" else self._host
        self._api = ServerApi(f"{host}:{self._ports['grpc']}", self._admin_secret)
        self._left.callback(self._api.close)

    def _reserve_ports(self) -> None:
        # Clients know HTTP's and gRPC's for good. One of the metrics that nobody chose is looked up
        # anew, and meanwhile another process may have got it.
        places = {name: (self._host, port) for name, port in self._ports.items()}
        self._ports = reserve_ports({**places, "metrics": (LOOPBACK, self._metrics_port)})

    def _is_ready(self) -> bool:
        # The server opens the port of the metrics last, a moment after it first says it is ready.
        metrics = (LOOPBACK, self._ports["metrics"])
        with suppress(OSError), socket.create_connection(metrics, _READY_TIMEOUT_SECONDS):
            return self._api.is_ready(_READY_TIMEOUT_SECONDS)
        return False

    def _wait_for_load(self, is_done: Callable[[], bool], seconds: float = float("inf")) -> None:
        """Wait while models are loaded, and end a server that waits for a stub which died.

        2.51 does so without end where a stub is killed meanwhile, for want of memory above all; for
        one that ends because its model cannot be loaded it answers.
        """
        # Those of before the load end by themselves.
        before, seen = self.stubs(), set[Stub]()
        give_up_at, lost_at = time.monotonic() + seconds, 0.0
        while not is_done():
            self._run_folder.make_regions_private()
            if not self.is_running():
                status = self._process.returncode if self._process else "unknown"
                raise self._failure(f"ended before it was ready (status {status})")
            now = time.monotonic()
            if now > give_up_at:
                raise self._failure(f"is not ready after {seconds:.6g} s")
            stubs = self.stubs() - before
            seen |= stubs
            lost_at = (lost_at or now) if seen - stubs else 0.0
            if lost_at and now - lost_at >= _HANGING_SECONDS:
                log_event("load_hangs", level=logging.ERROR, seconds=_HANGING_SECONDS)
                self.end_process()
            time.sleep(_POLL_SECONDS)
        self._run_folder.make_regions_private()

    def _failure(self, what: str) -> UnavailableError:
        return UnavailableError(f"tritonserver {what}{reason_in_log(self._log_file, self.pid)}")
