"""Start a tritonserver on an engine directory, and stop it without a trace."""

from __future__ import annotations

import os
import secrets
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from groundserve.engine_use import mark_in_use
from groundserve.errors import EngineMismatchError, UnavailableError
from groundserve.limits import Limits
from groundserve.manifest import REPOSITORY_NAME, Manifest
from groundserve.serving.api import ServerApi
from groundserve.serving.command import (
    EXIT_TIMEOUT_SECONDS,
    HTTP_LIMIT_OPTION,
    LOOPBACK,
    Ports,
    largest_http_body,
    server_command,
)
from groundserve.serving.device_memory import MemoryPools, device_memory, memory_pools
from groundserve.serving.events import log_event
from groundserve.serving.gpu import check_gpu
from groundserve.serving.host_memory import check_memory
from groundserve.serving.installation import (
    check_host,
    find_installation,
    server_environment,
    server_options,
)
from groundserve.serving.load_watch import end_if_load_hangs
from groundserve.serving.log_file import failed_loads, last_lines, open_log
from groundserve.serving.model_environment import model_environment
from groundserve.serving.processes import (
    ProcessInfo,
    ending_with_parent,
    kill_processes,
    session_tree,
    start_from_lasting_thread,
)
from groundserve.serving.repository import read_configs
from groundserve.serving.run_folder import RunFolder, remove_dead
from groundserve.serving.settings import check_cache, check_log_file
from groundserve.serving.shared_memory import RegionSizes, check_room, region_sizes
from groundserve.serving.signals import signals_deferred
from groundserve.serving.sockets import TcpSocket, sockets_of, tcp_sockets
from groundserve.serving.steering import Steering
from groundserve.serving.stubs import Sighting, Stub, find_sightings, find_stubs
from groundserve.serving.video_tensors import VideoTensors
from groundserve.tensorrt_library import TensorRTTarget

_START_TIMEOUT_SECONDS = 600.0
# With what follows the wait, a stop takes less than the 10 s that container runtimes allow.
_STOP_GRACE_SECONDS = EXIT_TIMEOUT_SECONDS + 2.0
_POLL_SECONDS = 0.1
_LOG_TAIL_LINES = 20
_PRIVATE_UMASK = 0o077
_BACKENDS_NAME = "backends"


class TritonServer:
    """One server process; it dies with nobody to restart it unless a `Supervisor` watches.

    Example:
        >>> with TritonServer("engines/", grpc_port=0) as server:
        ...     client = groundserve.Client(f"grpc://{server.grpc_address}")
    """

    def __init__(
        self,
        engine_dir: str | Path,
        *,
        host: str = LOOPBACK,
        http_port: int = 8000,
        grpc_port: int = 8001,
        metrics_port: int = 8002,
        metrics_host: str | None = None,
        allowed_roots: Sequence[str | Path] = (),
        cache_dir: str | Path | None = None,
        cache_bytes: int | None = None,
        log_file: str | Path | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            engine_dir: As `groundserve build` writes it.
            host: IPv4 address to listen on; loopback only with the wheel's server.
            http_port: 0 picks a free one, here and below.
            grpc_port: Port of the gRPC API.
            metrics_port: Port of the metrics.
            metrics_host: IPv4 address of the metrics; `host` where None.
            allowed_roots: Folders below which `file:` URIs may point.
            cache_dir: Folder of the feature cache; no cache where None.
            cache_bytes: Most bytes in it; the models' default where None.
            log_file: File the server's log is appended to; stderr where None.

        Raises:
            InvalidRequestError: A port is out of range, or two are the same.
        """
        # What a link points to now; a link that is moved later is for the next `switch`.
        self._engine_dir = Path(engine_dir).resolve()
        self._host = host
        self._metrics_host = metrics_host or host
        self._ports = Ports(http=http_port, grpc=grpc_port, metrics=metrics_port)
        self._metrics_port = metrics_port
        self._allowed_roots = [Path(root).absolute() for root in allowed_roots]
        self._cache_dir = Path(cache_dir).absolute() if cache_dir is not None else None
        self._cache_bytes = cache_bytes
        self._log_file = Path(log_file) if log_file is not None else None
        self._admin_secret = secrets.token_hex(32)
        self._run_folder: RunFolder | None = None
        self._regions: RegionSizes | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._engine_id = ""
        """What `start` found in the directory; a restart or a load of anything else is refused."""
        self._use: IO[bytes] | None = None
        self._predecessor: TritonServer | None = None
        self._cancelled = threading.Event()
        self._ending = threading.RLock()

    def successor(self, engine_dir: str | Path) -> TritonServer:
        """Return a server that is to take over from this one: other engines, all else the same.

        It listens at the same ports for HTTP and gRPC, beside this one, as soon as it is ready.
        """
        new = TritonServer(
            engine_dir,
            host=self._host,
            http_port=self._ports.http,
            grpc_port=self._ports.grpc,
            metrics_port=0,
            metrics_host=self._metrics_host,
            allowed_roots=self._allowed_roots,
            cache_dir=self._cache_dir,
            cache_bytes=self._cache_bytes,
            log_file=self._log_file,
        )
        new._predecessor = self
        return new

    def forget_predecessor(self) -> None:
        """Say that the one it took over from has ended: its ports are this one's alone."""
        self._predecessor = None

    @property
    def engine_dir(self) -> Path:
        """The directory that is served, links resolved."""
        return self._engine_dir

    @property
    def public_ports(self) -> tuple[int, int]:
        """Ports of HTTP and gRPC."""
        return self._ports.http, self._ports.grpc

    @property
    def engine_id(self) -> str:
        """Identity of the engines that are served, which no rebuild changes; "" before `start`."""
        return self._engine_id

    @property
    def pid(self) -> int | None:
        """Process id of the server, None while there is none."""
        return self._process.pid if self._process else None

    @property
    def http_address(self) -> str:
        """HOST:PORT of the HTTP API."""
        return f"{self._host}:{self._ports.http}"

    @property
    def grpc_address(self) -> str:
        """HOST:PORT of the gRPC API."""
        return f"{self._host}:{self._ports.grpc}"

    @property
    def metrics_address(self) -> str:
        """HOST:PORT of the metrics."""
        return f"{self._metrics_host}:{self._ports.metrics}"

    def start(self, *, timeout_seconds: float = _START_TIMEOUT_SECONDS) -> None:
        """Start the server and wait until all models are loaded; if that fails, nothing is left.

        Raises:
            EngineMismatchError: The directory does not match its manifest or this version, is for a
                GPU and there is none or the server is not one for GPUs, or the server cannot work
                with this environment.
            InvalidRequestError: There is no engine directory, an allowed root is not a folder, the
                cache's settings or the log file are wrong, or the host is not one this server may
                listen on.
            MissingExtraError: No tritonserver is installed.
            UnavailableError: A port is taken, shared memory or the cache's disk is full, or the
                server ended or is not ready in time.
        """
        self._check()
        self._boot(timeout_seconds)

    def restart(self) -> None:
        """Start again at the same ports and with the same secret, after removing what is left.

        A port of the metrics that was picked at the start may become another.

        Raises:
            UnavailableError: As `start`, and where the engine directory was rebuilt meanwhile.
        """
        try:
            if self.is_running():  # what it still serves is not given up for nothing
                self._load_manifest()
            self.stop()
            self._boot(_START_TIMEOUT_SECONDS)
        except EngineMismatchError as error:
            raise UnavailableError(str(error)) from error

    def is_running(self) -> bool:
        """Tell whether the server process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """What the server process ended with, -N by signal N; None while it lives or is stopped."""
        return self._process.poll() if self._process is not None else None

    def stubs(self) -> set[Stub]:
        """Return the stubs that live."""
        return find_stubs(self._process.pid) if self._process else set()

    @property
    def num_stubs(self) -> Mapping[str, int]:
        """How many stubs each model is to have; none before `start`."""
        return self._regions.num_stubs if self._regions else {}

    @property
    def answers_later(self) -> Set[str]:
        """Models whose processes take requests up and answer them later."""
        return {"generation"}

    def sightings(self) -> list[Sighting]:
        """Look at the processes that live; may be called from any thread."""
        process = self._process  # another thread may end it meanwhile
        return find_sightings(process.pid) if process else []

    def reload_model(self, name: str) -> None:
        """Load a model anew, with new stubs; requests on its other stubs go on.

        Raises:
            UnavailableError: It cannot be loaded, the server is gone, or the engine directory was
                rebuilt; then nothing was unloaded.
        """
        self._check_same_engines()
        with end_if_load_hangs(self.sightings):
            self._api.reload_model(name)
        self._tidy_regions()

    def swap_model(self, name: str) -> None:
        """Replace a model that works by a new one, with new stubs; no request fails meanwhile.

        Raises:
            UnavailableError: The new one cannot be loaded, and the old one stays; the server is
                gone; or the engine directory was rebuilt.
        """
        self._check_same_engines()
        with end_if_load_hangs(self.sightings):
            self._api.swap_model(name)
        self._tidy_regions()

    def crowding_models(self, stubs: Set[Stub]) -> set[str]:
        """Return the models to swap, for these stubs of them hold others' room in /dev/shm."""
        return self._regions.crowding_models(stubs) if self._regions else set()

    def check_engines(self) -> None:
        """Look whether the directory still holds the engines that are served.

        Raises:
            EngineMismatchError: It does not; a process that dies cannot be replaced.
        """
        self._load_manifest()

    def ungrown_bytes(self) -> int:
        """Return what its regions in /dev/shm may still grow by."""
        if self._regions is None or self._run_folder is None:
            return 0
        return max(0, self._regions.total_bytes - self._run_folder.region_bytes())

    def connections(self) -> list[TcpSocket]:
        """Return the connections that clients have to it.

        Those that nobody has accepted yet are among them: they may be its own or its successor's.
        """
        found = sockets_of(self._process.pid) if self._process else []
        found += [each for each in tcp_sockets() if not each.inode]
        return [each for each in found if each.is_open and each.port in self.public_ports]

    def cancel(self) -> None:
        """Make a `start` that another thread waits in fail, and so end what it started."""
        self._cancelled.set()

    def stop(self) -> None:
        """End the server and all its processes and remove what they left; may be repeated."""
        process = self._process  # another thread may kill it meanwhile
        # Before the server ends: what has a session of its own is found by its parents alone.
        family = session_tree(process.pid) if process else set()
        try:
            if process is not None:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_STOP_GRACE_SECONDS)
        finally:  # also at a second Ctrl-C, and then at once
            self.kill(family)

    def kill(self, family: Set[ProcessInfo] = frozenset()) -> None:
        """Do what `stop` does, but at once.

        Args:
            family: Processes to end besides those that can be told from the server's session.
        """
        with signals_deferred(), self._ending:
            if self._process is not None:
                kill_processes(family | session_tree(self._process.pid))
                self._process.wait()
                self._process = None
            if self._run_folder is not None:
                # Last: a process that lives could make more of what this removes.
                self._run_folder.remove()
                self._run_folder = None
            if self._use is not None:
                self._use.close()
                self._use = None

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

    @property
    def _api(self) -> ServerApi:
        return ServerApi(
            host=_reachable(self._host),
            metrics_host=_reachable(self._metrics_host),
            port=self._ports.http,
            metrics_port=self._ports.metrics,
            admin_secret=self._admin_secret,
        )

    def _tidy_regions(self) -> None:
        assert self._run_folder is not None, "a model is loaded by a server"
        self._run_folder.make_regions_private()
        # 2.51 leaves the regions of stubs that are gone.
        living = {stub.region for stub in self.stubs()}
        for region in self._run_folder.regions():
            if region.name not in living:
                region.unlink(missing_ok=True)

    def _check(self) -> None:
        installation = find_installation()
        check_host(installation, self._host)
        check_log_file(self._log_file)
        check_cache({**os.environ, **self._model_environment()})
        manifest = Manifest.load(self._engine_dir)
        self._engine_id = manifest.engine_id
        check_gpu(manifest, installation)
        if manifest.builder["tensorrt"] is not None:
            TensorRTTarget.from_dict(manifest.builder["tensorrt"]).check_gpu()
        # After all that is quick to look at: it reads every byte of the engines.
        manifest.verify_files(self._engine_dir)
        repository = self._engine_dir / REPOSITORY_NAME
        # Before the room is counted: what a dead server left in /dev/shm is free afterwards.
        remove_dead()
        needed = _region_sizes(manifest, repository).total_bytes
        if self._predecessor is not None:
            needed += self._predecessor.ungrown_bytes()
            if self._predecessor.pid is not None:
                check_memory(self._predecessor.pid, manifest.device)
        check_room(needed)

    def _boot(self, timeout_seconds: float) -> None:
        try:
            self._launch()
            with end_if_load_hangs(self.sightings):
                self._wait_ready(timeout_seconds)
            self._check_ports()
            self._load_manifest()  # plans that tritonserver reads itself, by another manifest
        except BaseException:
            self.stop()
            raise

    def _launch(self) -> None:
        installation = find_installation()
        # Before the manifest is read: a build that looks for users from now on finds this one.
        self._use = mark_in_use(self._engine_dir)
        manifest = self._load_manifest()
        repository = self._engine_dir / REPOSITORY_NAME
        self._reserve_ports()
        environment = server_environment(installation, self._model_environment())
        limits_http = HTTP_LIMIT_OPTION in server_options(installation.executable, environment)
        self._run_folder = RunFolder.create()
        self._regions = _region_sizes(manifest, repository)
        command = server_command(
            installation.executable,
            model_repository=repository,
            host=self._host,
            metrics_host=self._metrics_host,
            ports=self._ports,
            backend_dir=installation.link_backends(self._run_folder.path / _BACKENDS_NAME),
            shm_prefix=self._run_folder.region_prefix,
            regions=self._regions,
            admin_secret=self._admin_secret,
            pools=_gpu_pools(manifest, repository) if manifest.device == "cuda" else None,
            http_max_input_bytes=(
                largest_http_body(Limits.from_environment()) if limits_http else None
            ),
        )
        lock_fd = self._run_folder.lock_fd
        # A signal between the start and the assignment would leave a server that nobody knows.
        with open_log(self._log_file) as log, signals_deferred(), self._ending:
            self._check_not_cancelled()
            lock_fd = self._run_folder.lock_fd

            def start() -> subprocess.Popen[bytes]:
                return subprocess.Popen(
                    # However this process ends: nobody else would end the server.
                    ending_with_parent(command),
                    # Models find modules through the working directory: not the caller's.
                    cwd="/",
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    # Ctrl-C goes to this process alone, which then stops the server in order; and
                    # the session tells whose the processes are that a dead server leaves.
                    start_new_session=True,
                    # Questions, videos and features pass through the files that it makes.
                    umask=_PRIVATE_UMASK,
                    pass_fds=[lock_fd],
                )

            self._process = start_from_lasting_thread(start)

    def _reserve_ports(self) -> None:
        # Clients know HTTP's and gRPC's for good. One of the metrics that nobody chose is looked up
        # anew, and meanwhile another process may have got it.
        self._ports = replace(self._ports, metrics=self._metrics_port).reserve(
            self._host, self._metrics_host, is_shared=self._predecessor is not None
        )

    def _check_same_engines(self) -> None:
        try:
            self._load_manifest()
        except EngineMismatchError as error:
            raise UnavailableError(str(error)) from error

    def _load_manifest(self) -> Manifest:
        return Manifest.load_again(self._engine_dir, self._engine_id)

    def _model_environment(self) -> dict[str, str]:
        return model_environment(
            engine_id=self._engine_id,
            metrics_address=f"{self._api.metrics_host}:{self._ports.metrics}",
            allowed_roots=self._allowed_roots,
            cache_dir=self._cache_dir,
            cache_bytes=self._cache_bytes,
        )

    def _wait_ready(self, timeout_seconds: float) -> None:
        assert self._run_folder is not None, "it was launched"
        give_up_at = time.monotonic() + timeout_seconds
        while not self._api.is_ready():
            self._run_folder.make_regions_private()
            self._check_not_cancelled()
            self._check_running()
            if time.monotonic() > give_up_at:
                raise UnavailableError(
                    f"tritonserver is not ready after {timeout_seconds:.6g} s{self._log_tail()}"
                )
            time.sleep(_POLL_SECONDS)
        self._run_folder.make_regions_private()

    def _check_ports(self) -> None:
        """Look whether a server of this user that started at the same moment has them, too."""
        known = (self.pid, self._predecessor.pid if self._predecessor else None, os.getpid())
        pids = [pid for pid in known if pid is not None]
        for port in self.public_ports:
            if any(place.is_shared_beyond(pids) for place in Steering.of(pids[0], port)):
                raise UnavailableError(
                    f"another server began to listen on {self._host}:{port} at the same time; "
                    "choose other ports (--http-port, --grpc-port)"
                )

    def _check_not_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise UnavailableError("the server was told to stop before it was ready")

    def _check_running(self) -> None:
        status = self._process.poll() if self._process is not None else "unknown"
        if status is not None:
            raise UnavailableError(
                f"tritonserver ended before it was ready (status {status}){self._log_tail()}"
            )

    def _log_tail(self) -> str:
        if self._log_file is None:
            return "; its log is above"
        # Where it could not load a model, much may follow: 2.51 even crashes then (status -6) if
        # its other models do not end in time.
        why = failed_loads(self._log_file, self.pid or 0)
        return "\n".join(
            ["; its log says why:", *(why or last_lines(self._log_file, _LOG_TAIL_LINES))]
        )


def _region_sizes(manifest: Manifest, repository: Path) -> RegionSizes:
    limits = Limits.from_environment()
    tensors = VideoTensors.of(manifest.seam, manifest.model, limits)
    return region_sizes(read_configs(repository), tensors, limits)


def _reachable(host: str) -> str:
    # 0.0.0.0 is a place to listen at, none to connect to on every system.
    return LOOPBACK if host == "0.0.0.0" else host


def _gpu_pools(manifest: Manifest, repository: Path) -> MemoryPools:
    """Return the pools' sizes, and tell the operator what the server may take besides."""
    configs = read_configs(repository)
    limits = Limits.from_environment()
    tensors = VideoTensors.of(manifest.seam, manifest.model, limits)
    memory = device_memory(configs, tensors, limits)
    log_event("gpu", **asdict(memory), total_bytes=memory.total_bytes)
    return memory_pools(configs, tensors)
