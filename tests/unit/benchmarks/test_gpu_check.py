"""The GPU check: what its parts compute, and the report around them."""

from __future__ import annotations

import pytest

import python_backend.checkpoint  # noqa: F401  # takes classes that a test replaces, before it does
from benchmarks.gpu.engines import check_engines
from benchmarks.gpu.models import Bench
from benchmarks.gpu.size import FULL, SMALL
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT


@pytest.mark.parametrize(
    ("num_frames", "grid", "vision_tflop", "grounding_tflop", "tokens"),
    [
        (64, 16, 41.1, 324.2 + 0.55, 16484),
        (256, 8, 164.3, 324.2 + 0.55, 16484),
        (512, 5, 328.6, 235.2 + 0.43, 12900),
        (1024, 4, 657.2, 324.2 + 0.55, 16484),
    ],
    ids=["T=64", "T=256", "T=512", "T=1024"],
)
def test_full_size_arithmetic_equals_the_specified_figures(
    num_frames, grid, vision_tflop, grounding_tflop, tokens
):
    assert FULL.grid(num_frames) == grid
    assert FULL.num_tokens(num_frames) == tokens
    assert FULL.vision_flop(num_frames) / 1e12 == pytest.approx(vision_tflop, abs=0.06)
    assert FULL.grounding_flop(num_frames) / 1e12 == pytest.approx(grounding_tflop, abs=0.06)


def test_engines_of_pytorch_are_as_the_reference(engines_of):
    engine_dir = engines_of(SHIPPED_CHECKPOINT, "torch")
    result = check_engines(Bench(size=SMALL, device="cpu"), engine_dir, None)
    # The same sums; the engine's batches may add them in another order.
    assert max(result["logit_relative_error"].values()) < 1e-5
    assert list(result["logit_relative_error"]) == ["1", "7", "128", "1000"]
    assert result["mask_probe"] > 0
