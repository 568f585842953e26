from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from groundserve._version import __version__
from groundserve.errors import EngineMismatchError
from groundserve.manifest import FORMAT_VERSION, MANIFEST_NAME, Manifest, ModelSpec
from groundserve.profiles import Device
from groundserve.serving import TritonServer
from groundserve.serving import server as server_module
from groundserve.serving.gpu import check_gpu
from groundserve.serving.installation import TritonInstallation

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
    model = ModelSpec(
        image_size=384,
        side=27,
        vision_hidden_size=1152,
        vision_token_num=16_384,
        max_tokens=None,
        pad_token_id=0,
    )
    return Manifest(
        format_version=FORMAT_VERSION,
        family="videoitg",
        groundserve_version=__version__,
        profile=profile,
        device=device,
        precision="bf16" if device == "cuda" else "fp32",
        model=model,
        checkpoint={},
        source_config={},
        builder={},
        files={},
    )


def no_library(name: str) -> Any:
    raise OSError(f"{name}: cannot open shared object file")


@pytest.mark.parametrize("profile", ["cpu", "torch"])
def test_engines_for_the_cpu_ask_for_nothing(profile):
    check_gpu(manifest(profile, "cpu"), WHEEL, load_library=no_library)


def test_gpu_and_container_pass():
    names = []

    def load(name: str) -> FakeDriver:
        names.append(name)
        return FakeDriver(2)

    check_gpu(manifest("gpu", "cuda"), CONTAINER, load_library=load)
    assert names == ["libcuda.so.1"]


@pytest.mark.parametrize("profile", ["torch", "gpu", "gpu-trt"])
def test_missing_driver_is_named(profile):
    with pytest.raises(
        EngineMismatchError, match=rf"profile {profile}\) .* no driver \(libcuda\.so\.1\).*--gpus"
    ):
        check_gpu(manifest(profile, "cuda"), CONTAINER, load_library=no_library)


@pytest.mark.parametrize(
    ("driver", "match"),
    [
        (FakeDriver(0), r"finds 0 \(status 0\).*CUDA_VISIBLE_DEVICES"),
        (FakeDriver(1, status=803), r"finds 0 \(status 803\)"),
    ],
    ids=["hidden", "driver_too_old"],
)
def test_driver_without_a_gpu_is_refused(driver, match):
    with pytest.raises(EngineMismatchError, match=match):
        check_gpu(manifest("gpu", "cuda"), CONTAINER, load_library=lambda name: driver)


@pytest.mark.parametrize("profile", ["torch", "gpu"])
def test_wheels_server_is_refused_for_a_gpu(profile):
    with pytest.raises(EngineMismatchError, match=r"wheel has no TensorRT backend.*Dockerfile"):
        check_gpu(manifest(profile, "cuda"), WHEEL, load_library=lambda name: FakeDriver(1))


def test_server_refuses_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(server_module, "check_gpu", partial(check_gpu, load_library=no_library))
    (tmp_path / MANIFEST_NAME).write_text(manifest("torch", "cuda").to_json())
    server = TritonServer(tmp_path, http_port=0, grpc_port=0, metrics_port=0)
    with pytest.raises(EngineMismatchError, match=r"\(profile torch\) runs on an NVIDIA GPU"):
        server.start()
    assert server.pid is None
