from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine_build.triton.__main__ import LAYOUTS, REFERENCE_FAMILY, REFERENCE_MODEL
from engine_build.triton.render import write_model
from engine_build.triton.specs import model_specs
from groundserve._version import __version__
from groundserve.cli.doctor_checks import check_engines
from groundserve.engines.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    REPOSITORY_NAME,
    Manifest,
)
from groundserve.engines.profiles import Device
from groundserve.errors import EngineMismatchError
from groundserve.serving.installation import TritonInstallation, check_gpu

CONTAINER = TritonInstallation(executable=Path("/opt/tritonserver/bin/tritonserver"))
WHEEL = TritonInstallation(
    executable=Path("/wheel/tritonserver"), python_backend_files=(Path("/wheel/stub"),)
)


class FakeDriver:
    """libcuda with so many GPUs."""

    def __init__(self, num_gpus: int, status: int = 0) -> None:
        self.num_gpus = num_gpus
        self.status = status

    def cuInit(self, flags: int) -> int:  # noqa: N802 - the driver's name
        assert flags == 0
        return self.status

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802 - the driver's name
        count._obj.value = self.num_gpus
        return 0


def manifest(profile: str, device: Device) -> Manifest:
    return Manifest(
        format_version=FORMAT_VERSION,
        family="videoitg",
        groundserve_version=__version__,
        profile=profile,
        device=device,
        precision="bf16" if device == "cuda" else "fp32",
        model=REFERENCE_MODEL,
        checkpoint={"name": "tiny", "sha256": "1"},
        source_config={},
        builder={},
        files={},
    )


def no_library(name: str) -> Any:
    raise OSError(f"{name}: cannot open shared object file")


@pytest.mark.parametrize("profile", ["torch", "gpu", "gpu-trtllm"])
def test_missing_driver_is_named(profile, monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", no_library)
    with pytest.raises(
        EngineMismatchError, match=rf"profile {profile}\) .* no driver \(libcuda\.so\.1\).*--gpus"
    ):
        check_gpu(manifest(profile, "cuda"), CONTAINER)


@pytest.mark.parametrize(
    ("driver", "match"),
    [
        (FakeDriver(0), r"finds 0 \(status 0\).*CUDA_VISIBLE_DEVICES"),
        (FakeDriver(1, status=803), r"finds 0 \(status 803\)"),
    ],
    ids=["hidden", "driver_too_old"],
)
def test_driver_without_a_gpu_is_refused(driver, match, monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda name: driver)
    with pytest.raises(EngineMismatchError, match=match):
        check_gpu(manifest("gpu", "cuda"), CONTAINER)


@pytest.mark.parametrize("profile", ["torch", "gpu"])
def test_wheels_server_is_refused_for_a_gpu(profile, monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda name: FakeDriver(1))
    with pytest.raises(EngineMismatchError, match=r"wheel has no TensorRT backend.*Dockerfile"):
        check_gpu(manifest(profile, "cuda"), WHEEL)


@pytest.fixture
def gpu_engines(tmp_path):
    """An engine directory for a GPU, without engines."""
    for spec in model_specs(LAYOUTS["gpu"], REFERENCE_FAMILY, REFERENCE_MODEL):
        write_model(spec, tmp_path / REPOSITORY_NAME)
    (tmp_path / MANIFEST_NAME).write_text(manifest("gpu", "cuda").to_json())
    return tmp_path


def test_doctor_adds_up_the_gpus_memory(gpu_engines, monkeypatch):
    rows = {subject: detail for subject, _, detail in check_engines(gpu_engines)}
    pool = float(rows["GPU memory: pool"].split()[0])
    assert rows["GPU memory: decoding"].startswith("2 processes, 7.67 GiB each at most")
    total = float(rows["GPU memory: total"].split()[0])
    assert total == pytest.approx(pool + 2 * 7.67, abs=0.02)  # each number is rounded
    monkeypatch.setenv("GROUNDSERVE_MAX_SIDE_PIXELS", "4096")
    rows = {subject: detail for subject, _, detail in check_engines(gpu_engines)}
    assert rows["GPU memory: decoding"].startswith("2 processes, 6.55 GiB each at most")
