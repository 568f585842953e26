from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from groundserve.engines import tensorrt_library
from groundserve.engines.tensorrt_library import TensorRTLibrary, TensorRTTarget, load_tensorrt
from groundserve.errors import MissingExtraError, UnsupportedError


def fake_tensorrt(version):
    flag = SimpleNamespace(STRONGLY_TYPED=1)
    return SimpleNamespace(__version__=version, NetworkDefinitionCreationFlag=flag)


@pytest.fixture
def gpu(monkeypatch):
    """Pretend that this machine has a GPU of an architecture, or none."""
    return lambda arch: monkeypatch.setattr(tensorrt_library, "current_gpu_arch", lambda: arch)


@pytest.mark.parametrize(
    ("name", "error", "where"),
    [
        ("tensorrt", UnsupportedError, r"NVIDIA's containers \(deploy/Dockerfile\)"),
        ("tensorrt_rtx", MissingExtraError, r"groundserve\[tensorrt\]"),
    ],
)
def test_a_library_that_is_not_installed_says_where_it_is(monkeypatch, name, error, where):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(error, match=f"{name} is not installed.*{where}"):
        load_tensorrt(name)


def test_rtx_is_told_its_architectures():
    library = load_tensorrt("tensorrt_rtx")
    trt = library.module
    config = trt.Builder(trt.Logger(trt.Logger.ERROR)).create_builder_config()
    library.set_gpu_archs(config, ("sm_89", "sm_120"))
    told = [config.get_compute_capability(i) for i in range(config.num_compute_capabilities)]
    assert told == [trt.ComputeCapability.SM89, trt.ComputeCapability.SM120]


@pytest.mark.parametrize(
    ("gpu_archs", "message"),
    [
        pytest.param(
            ["sm_90"], "builds for sm_75.*sm_121, got 'sm_90'.*use tensorrt on", id="data_centre"
        ),
        pytest.param(["sm_89", "ada"], "got 'ada'", id="no_architecture"),
        pytest.param(["sm_CURRENT"], "got 'sm_CURRENT'", id="not_the_libraries_own_word"),
        pytest.param(["sm_89", "sm_89"], "each once, got sm_89, sm_89", id="twice"),
    ],
)
def test_choose_refuses_what_rtx_does_not_offer(gpu_archs, message):
    with pytest.raises(UnsupportedError, match=message):
        TensorRTTarget.choose(gpu_archs)


def test_tensorrt_builds_for_no_other_gpu(gpu):
    gpu("sm_89")
    library = TensorRTLibrary(name="tensorrt", module=fake_tensorrt("10.14.1.48"))
    with pytest.raises(UnsupportedError, match=r"this machine's GPU \(sm_89\), got sm_90"):
        library.check_gpu_archs(["sm_90"])
    library.check_gpu_archs(["sm_89"])
