"""Fixtures that builds share."""

from __future__ import annotations

import pytest

from tests.fake_tensorrt_llm.machine import install


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with a GPU and the pinned TensorRT-LLM; returns how to replace its program."""
    return install(tmp_path / "machine", monkeypatch)
