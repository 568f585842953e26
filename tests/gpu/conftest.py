"""Every test here needs a GPU; GROUNDSERVE_REQUIRE_GPU=1 turns a missing one into a failure."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def gpu() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if os.environ.get("GROUNDSERVE_REQUIRE_GPU") == "1":
        pytest.fail("GROUNDSERVE_REQUIRE_GPU=1, but PyTorch sees no GPU")
    pytest.skip("PyTorch sees no GPU")
