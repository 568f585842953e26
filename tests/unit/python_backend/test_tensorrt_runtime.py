"""What is refused before or while a plan is read, by TensorRT's own library."""

from __future__ import annotations

from pathlib import Path

import pytest

from groundserve.engines import tensorrt_library
from groundserve.engines.tensorrt_library import TensorRTTarget, load_tensorrt
from groundserve.errors import EngineMismatchError
from python_backend.tensorrt_runtime import PlanRunner


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> TensorRTTarget:
    """The installed library, on a machine that seems to have an sm_89."""
    monkeypatch.setattr(tensorrt_library, "current_gpu_arch", lambda: "sm_89")
    version = load_tensorrt("tensorrt_rtx").version
    return TensorRTTarget(library="tensorrt_rtx", version=version, gpu_archs=("sm_89", "sm_120"))


def test_an_absent_plan_is_refused(target: TensorRTTarget, tmp_path: Path) -> None:
    with pytest.raises(EngineMismatchError, match=r"absent\.plan cannot be read \(No such file"):
        PlanRunner(tmp_path / "absent.plan", target)


def test_a_damaged_plan_is_refused(target: TensorRTTarget, tmp_path: Path) -> None:
    (tmp_path / "model.plan").write_bytes(b"not a plan" * 100)
    with pytest.raises(EngineMismatchError, match=r"model\.plan is no plan that tensorrt_rtx 1"):
        PlanRunner(tmp_path / "model.plan", target)
