"""Plans at the real sizes, built without a GPU: they fuse, and they fit into a small machine.

Variants of the vision plan are built with two layers of the real widths (test_tensorrt_plan.py);
`benchmarks/results/plan_size_*.json` has them at full size.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from tests.support.full_size_plan import build_full_size

MAX_MEMORY_GIB = 16


@pytest.mark.parametrize(
    ("stage", "num_layers", "weights_mb", "max_kernels_a_layer"),
    [
        # SigLIP so400m, 384 px, 26 of 27 layers; 411 M weights of 16 bits.
        pytest.param("vision", 26, 790, 10, id="so400m"),
        # 28 layers, head size and S of the real decoder, at a seventh of its width.
        pytest.param("scorer", 28, 210, 16, id="qwen2_narrow"),
    ],
)
def test_a_full_size_plan_is_fused_in_every_layer(
    tmp_path, stage, num_layers, weights_mb, max_kernels_a_layer
):
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        result = pool.submit(build_full_size, stage, tmp_path).result()
    print(result)  # noqa: T201 - pytest shows it with -s
    assert result["num_layers"] == num_layers
    assert result["num_attention_layers"] == result["num_fused_kernels"] == num_layers
    # Of vision: 244. With three products, or one divided by columns: 296.
    assert num_layers < result["num_kernels"] < max_kernels_a_layer * num_layers
    assert result["weights_bytes"] > weights_mb * 1e6
    assert result["plan_bytes"] == (tmp_path / "model.plan").stat().st_size
    assert result["peak_memory_gib"] < MAX_MEMORY_GIB
