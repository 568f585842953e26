"""Find a tritonserver: the one on PATH, else the one inside the nvidia-pytriton wheel."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import ipaddress
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from groundserve.engines.manifest import Manifest
from groundserve.errors import EngineMismatchError, InvalidRequestError, MissingExtraError
from groundserve.limits import MIB

# glibc raises this threshold to the largest block that was freed; tensors of ever changing sizes
# then fragment its heap, and an engine's process grows by 50 MiB in a quarter of an hour.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(4 * MIB)}


@dataclass(frozen=True, kw_only=True)
class TritonInstallation:
    """A tritonserver, and what must be told to it that it does not find itself."""

    executable: Path
    library_dirs: tuple[Path, ...] = ()
    """Folders to put on the loader's path."""
    python_backend_files: tuple[Path, ...] = ()
    """Files of the Python backend; empty where the server has its backends in its own place."""

    @property
    def is_wheel(self) -> bool:
        """Whether it is the wheel's: 2.51, with the Python backend alone, and known flaws."""
        return bool(self.python_backend_files)

    @property
    def backend_dir(self) -> Path:
        """Where its backends lie, a folder each."""
        if self.python_backend_files:
            return self.python_backend_files[0].parents[1]
        return self.executable.resolve().parents[1] / "backends"

    def has_backend(self, name: str) -> bool:
        """Tell whether it has a backend, such as "python"."""
        return (self.backend_dir / name / f"libtriton_{name}.so").is_file()

    def link_backends(self, backend_dir: Path) -> Path | None:
        """Make a folder of links for `--backend-directory`; None where it needs none."""
        if not self.python_backend_files:
            return None
        python_dir = backend_dir / "python"
        python_dir.mkdir(parents=True)
        for file in self.python_backend_files:
            (python_dir / file.name).symlink_to(file)
        return backend_dir


def find_installation() -> TritonInstallation:
    """Return the installation to use, or say what is missing or cannot work together."""
    # The container's server comes first: the wheel's is older, and for loopback alone.
    on_path = shutil.which("tritonserver")
    if on_path is not None:
        return TritonInstallation(executable=Path(on_path))
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None:
        raise MissingExtraError("serve", "nvidia-pytriton")
    version = importlib.metadata.version("numpy")
    if int(version.split(".")[0]) >= 2:  # the wheel's server answers empty tensors and no error
        raise EngineMismatchError(
            f"the Triton server in the nvidia-pytriton wheel needs numpy < 2, got {version}; "
            "install it with: pip install 'numpy<2'"
        )
    return wheel_installation(Path(spec.origin).parent)


def wheel_installation(package_dir: Path) -> TritonInstallation:
    """Return the installation inside the folder of the package `pytriton`."""
    root = package_dir / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = root / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise EngineMismatchError(f"the nvidia-pytriton wheel has no backend for Python {version}")
    backend_dir = root / "backends" / "python"
    return TritonInstallation(
        executable=root / "bin" / "tritonserver",
        library_dirs=(
            Path(sysconfig.get_config_var("LIBDIR")),  # libpython, for the stub
            package_dir.parent / "nvidia_pytriton.libs",
        ),
        python_backend_files=(
            backend_dir / "libtriton_python.so",
            backend_dir / "triton_python_backend_utils.py",
            stub,
        ),
    )


def check_host(installation: TritonInstallation, host: str) -> None:
    """Refuse what is no IPv4 address, or one at which others reach a server with known flaws."""
    try:
        is_loopback = ipaddress.IPv4Address(host).is_loopback
    except ValueError as error:
        raise InvalidRequestError(f"host (--host) must be an IPv4 address, got {host!r}") from error
    if installation.is_wheel and not is_loopback:
        raise InvalidRequestError(
            f"host (--host) must be a loopback address, got {host}: the Triton server in the "
            "nvidia-pytriton wheel has published flaws that let anybody who reaches it run code; "
            "put a gateway in front, or use NVIDIA's container, whose tritonserver is on PATH"
        )


def server_environment(
    installation: TritonInstallation, extra: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment to start the server in, with `extra` in it.

    The models' Python is the first `python3` on PATH, so this interpreter's folder goes there.
    """
    # An operator's own value wins over `_MALLOC`, and `extra` over an operator's.
    environment = {**_MALLOC, **os.environ, **extra}
    folders = {"PATH": [Path(sys.executable).parent], "LD_LIBRARY_PATH": installation.library_dirs}
    for name, own in folders.items():
        parts = [*map(str, own), *filter(None, [environment.get(name)])]
        if parts:
            environment[name] = os.pathsep.join(parts)
    return environment


def check_gpu(manifest: Manifest, installation: TritonInstallation) -> None:
    """Refuse engines for a GPU where none can be used, before a server fails to load them."""
    if manifest.device == "cpu":
        return
    engine = f"the engine directory (profile {manifest.profile}) runs on an NVIDIA GPU"
    rebuild = "or build one for this machine with: groundserve build --profile cpu"
    try:
        status, count = count_gpus()
    except OSError as error:
        raise EngineMismatchError(
            f"{engine}, this machine has no driver (libcuda.so.1); serve it where there is one "
            f"(with Docker: --gpus), {rebuild}"
        ) from error
    if count < 1:
        raise EngineMismatchError(
            f"{engine}, the driver finds {count} (status {status}); see nvidia-smi and "
            f"CUDA_VISIBLE_DEVICES, {rebuild}"
        )
    if installation.is_wheel:
        raise EngineMismatchError(
            f"{engine}; the Triton server in the nvidia-pytriton wheel has no TensorRT backend and "
            "is not known to serve from GPUs: use the container of deploy/Dockerfile, whose "
            f"tritonserver is on PATH, {rebuild}"
        )


def count_gpus() -> tuple[int, int]:
    """Return CUDA's status, 0 for success, and the number of GPUs; OSError without a driver."""
    # The driver itself: neither PyTorch nor a toolkit need be installed to serve plans.
    driver = ctypes.CDLL("libcuda.so.1")
    count = ctypes.c_int(0)
    # 0 is CUDA_SUCCESS; the first call that fails tells why.
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    return status, count.value
