"""The scripts that the image runs, on real libraries and a stand-in for CUDA's control daemon."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import pytriton
from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup

from groundserve.serving.mps import PIPE_DIR_VARIABLE, mps_daemon_pid
from groundserve.serving.repository import num_instances, read_configs
from tests.reference import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
SERVER = Path(pytriton.__file__).parent / "tritonserver"
LIBRARIES = SERVER.parents[1] / "nvidia_pytriton.libs"
"""What auditwheel put beside the wheel's server: its libraries, under names with a hash."""


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("script", sorted(DEPLOY.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_valid(shell, script):
    checked = subprocess.run([shell, "-n", script], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert os.access(script, os.X_OK)


def check_libraries(*paths: Path, search: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    if search is not None:
        environment["LD_LIBRARY_PATH"] = str(search)
    return subprocess.run(
        [DEPLOY / "check_libraries.sh", *paths],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def backend() -> Path:
    """Triton's own backend for Python, which finds its libraries by a path relative to itself."""
    return SERVER / "backends" / "python" / "libtriton_python.so"


@pytest.fixture
def moved_backend(backend, tmp_path) -> Path:
    """The same library where that path leads nowhere."""
    moved = tmp_path / "moved" / backend.name
    moved.parent.mkdir()
    moved.write_bytes(backend.read_bytes())
    return moved


def need_instead(library: Path, pattern: bytes, name: bytes) -> None:
    """Let a library need another one than that of a longer name."""
    data = library.read_bytes()
    (needed,) = set(re.findall(pattern, data))
    library.write_bytes(data.replace(needed, name.ljust(len(needed), b"\0")))


def test_backend_that_finds_everything_passes(backend):
    run = check_libraries(backend)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_backend_without_its_libraries_does_not(moved_backend):
    run = check_libraries(moved_backend)
    assert run.returncode == 1
    assert f"{moved_backend} would not load:" in run.stderr
    for name in ("libtritonserver", "libarchive", "libcudart"):
        assert re.search(rf"^\s*{name}-\w+\.so\S* => not found$", run.stderr, re.MULTILINE)


def test_search_path_counts(moved_backend):
    assert check_libraries(moved_backend, search=LIBRARIES).returncode == 0


def test_one_missing_library_is_enough(moved_backend):
    need_instead(moved_backend, rb"libarchive-\w+\.so[.0-9]*", b"libnvinfer.so.10")
    run = check_libraries(moved_backend, search=LIBRARIES)
    assert run.returncode == 1
    assert "libnvinfer.so.10 => not found" in run.stderr


@pytest.mark.parametrize("name", [b"libcuda.so.1", b"libnvidia-ml.so.1", b"libnvcuvid.so.1"])
def test_the_drivers_libraries_may_be_missing(name, moved_backend):
    """The container runtime brings them, after the build."""
    need_instead(moved_backend, rb"libarchive-\w+\.so[.0-9]*", name)
    run = check_libraries(moved_backend, search=LIBRARIES)
    assert (run.returncode, run.stderr) == (0, "")


def test_functions_that_the_server_does_not_have_are_found(moved_backend):
    """As where the backend is newer than the server: nothing is missing but what it calls."""
    need_instead(moved_backend, rb"libtritonserver-\w+\.so", b"libcuda.so.1")
    run = check_libraries(moved_backend, search=LIBRARIES)
    assert run.returncode == 1
    assert "undefined symbol: TRITONBACKEND_" in run.stderr
    assert "not found" not in run.stderr


def test_every_file_is_looked_at(backend, moved_backend, tmp_path):
    text = tmp_path / "text.so"
    text.write_text("no library")
    run = check_libraries(text, moved_backend, tmp_path / "absent.so", backend)
    assert run.returncode == 1
    for path in (text, moved_backend, tmp_path / "absent.so"):
        assert str(path) in run.stderr
    assert str(backend) not in run.stderr


def test_no_file_is_a_wrong_call():
    run = check_libraries()
    assert run.returncode == 2
    assert "usage:" in run.stderr


# CUDA's control daemon, as far as its users tell: `-d` leaves a daemon behind that writes its
# process id into the folder of pipes ("Tools and Interface Reference" of NVIDIA's MPS
# documentation); without options, commands on stdin are answered by the daemon of that folder, and
# fail without one (NVIDIA/k8s-device-plugin 081a3ce, cmd/mps-control-daemon/mps/daemon.go: Start,
# AssertHealthy).
CONTROL = """#!/bin/sh
[ "$FAULT" != "hang$*" ] || exec sleep 600
echo "control $* pipes=$CUDA_MPS_PIPE_DIRECTORY log=$CUDA_MPS_LOG_DIRECTORY" >> "$CALLS"
pid_file=$CUDA_MPS_PIPE_DIRECTORY/nvidia-cuda-mps-control.pid
if [ "$*" = -d ]; then
    [ "$FAULT" != start ] || exit 1
    [ "$FAULT" = mute ] || echo "$DAEMON" > "$pid_file"
else
    command=$(cat)
    echo "stdin $command" >> "$CALLS"
    [ -f "$pid_file" ] || { echo "Cannot find MPS control daemon process" >&2; exit 1; }
    echo 100.0
fi
"""
TIMEOUT = """#!/bin/sh
[ "$1" = 30 ] || exit 9
shift
exec /usr/bin/timeout 1 "$@"
"""
"""Shortens what the entry point allows."""
GROUNDSERVE = """#!/bin/sh
echo "groundserve $* pipes=$CUDA_MPS_PIPE_DIRECTORY" >> "$CALLS"
exit 7
"""


@pytest.fixture
def start(tmp_path):
    """Run the image's entry point with stand-ins for what it starts."""
    binaries, temporary = tmp_path / "bin", tmp_path / "tmp"
    calls = tmp_path / "calls"
    for folder in (binaries, temporary):
        folder.mkdir()

    def start(*arguments: str, control: bool = True, fault: str = "", **environment: str):
        programs = {"groundserve": GROUNDSERVE, "timeout": TIMEOUT} | (
            {"nvidia-cuda-mps-control": CONTROL} if control else {}
        )
        for name, text in programs.items():
            (binaries / name).write_text(text)
            (binaries / name).chmod(0o755)
        calls.write_text("")
        run = subprocess.run(
            [DEPLOY / "entrypoint.sh", *arguments],
            env={
                "PATH": f"{binaries}:/usr/bin:/bin",
                "TMPDIR": str(temporary),
                "CALLS": str(calls),
                "DAEMON": str(os.getpid()),
                "FAULT": fault,
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        return run, calls.read_text().splitlines()

    return start


@pytest.mark.parametrize(
    "environment",
    [{}, {"GROUNDSERVE_MPS": "0"}, {"GROUNDSERVE_MPS": ""}],
    ids=["unset", "0", "empty"],
)
def test_without_mps_only_groundserve_runs(environment, start):
    run, calls = start("serve", "--engines", "/engines/two words", **environment)
    assert calls == ["groundserve serve --engines /engines/two words pipes="]
    assert run.returncode == 7  # groundserve's own


def test_mps_is_started_and_answers_before_the_server_runs(start):
    run, calls = start("serve", "--engines", "/engines", GROUNDSERVE_MPS="1")
    assert run.returncode == 7, run.stderr
    daemon, query, command, groundserve = calls
    (pipes,) = re.findall(r"^groundserve serve --engines /engines pipes=(\S+)$", groundserve)
    assert daemon == f"control -d pipes={pipes} log={pipes}"
    assert query == f"control  pipes={pipes} log={pipes}"
    assert command == "stdin get_default_active_thread_percentage"
    # Where `groundserve` looks for it, in the environment it is given.
    assert mps_daemon_pid({PIPE_DIR_VARIABLE: pipes}) == os.getpid()


def test_each_start_has_pipes_of_its_own(start):
    folders = set()
    for _ in range(2):
        _, calls = start("serve", GROUNDSERVE_MPS="1", CUDA_MPS_PIPE_DIRECTORY="/tmp/nvidia-mps")
        folders.add(calls[-1])
    assert len(folders) == 2
    assert not any(line.endswith("pipes=/tmp/nvidia-mps") for line in folders)


def test_a_build_needs_no_mps(start):
    _, calls = start("build", "--out", "/engines", GROUNDSERVE_MPS="1")
    assert calls == ["groundserve build --out /engines pipes="]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"control": False}, "NVIDIA_DRIVER_CAPABILITIES must have compute"),
        ({"fault": "start"}, "the control daemon did not start"),
        ({"fault": "mute"}, "the control daemon does not answer"),
        ({"fault": "hang-d"}, "the control daemon did not start"),
        ({"fault": "hang"}, "the control daemon does not answer"),
    ],
    ids=["absent", "does_not_start", "does_not_answer", "hangs_at_start", "hangs_at_a_question"],
)
def test_mps_that_was_asked_for_and_is_not_there_ends_the_container(options, message, start):
    run, calls = start("serve", GROUNDSERVE_MPS="1", **options)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith("GROUNDSERVE_MPS=1: ")
    assert message in run.stderr
    assert not any(line.startswith("groundserve") for line in calls)


@pytest.mark.parametrize("value", ["yes", "2", " 1", "x:1"])
def test_other_values_are_refused(value, start):
    run, calls = start("serve", GROUNDSERVE_MPS=value)
    assert run.returncode == 2
    assert run.stderr == f"GROUNDSERVE_MPS must be 0 or 1, got {value}\n"
    assert calls == []


def test_clients_are_far_fewer_than_mps_takes():
    """48 contexts a GPU ("Client-Server Connection Limits" of NVIDIA's MPS documentation)."""
    configs = read_configs(REPOSITORY / "triton_models" / "gpu")
    stubs = sum(
        num_instances(config)
        for config in configs.values()
        if config.backend == "python"
        and any(group.kind == ModelInstanceGroup.KIND_GPU for group in config.instance_group)
    )
    assert stubs + 1 == 8  # and the server itself
