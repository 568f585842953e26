"""A machine with a GPU and the pinned TensorRT-LLM, as far as a build can tell."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests import fake_tensorrt_llm
from tests.fake_tensorrt_llm import VERSION
from tests.support.reference import REPOSITORY

PROGRAM = f"""#!{sys.executable}
import os, sys
sys.path.insert(0, {str(REPOSITORY)!r})
assert os.environ["TLLM_LOG_LEVEL"] == "INFO"
assert os.environ["OMPI_MCA_ess_singleton_isolated"] == "1"
assert os.environ["PMIX_MCA_gds"] == "the user's"
import pytest
from tests import fake_tensorrt_llm
fake_tensorrt_llm.install(pytest.MonkeyPatch())
from tests.fake_tensorrt_llm.builder import main
main()
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make one of this machine; returns how to replace its `trtllm-build`."""
    fake_tensorrt_llm.install(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("TLLM_LOG_LEVEL", "ERROR")
    monkeypatch.setenv("PMIX_MCA_gds", "the user's")
    monkeypatch.syspath_prepend(str(folder))
    install_metadata(folder, VERSION)

    def replace_program(text: str) -> None:
        program = folder / "trtllm-build"
        program.write_text(text)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    replace_program(PROGRAM)
    return replace_program


def install_metadata(folder: Path, version: str) -> None:
    """Say that a release is installed there."""
    info = folder / f"tensorrt_llm-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: tensorrt_llm\nVersion: {version}\n"
    )
