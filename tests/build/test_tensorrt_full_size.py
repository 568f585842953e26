"""Plans at the real sizes, built without a GPU: they fuse, and they fit into a small machine.

Variants of the vision plan are built with two layers of the real widths (test_tensorrt_plan.py),
as are here the towers of 39 layers; `benchmarks/results/plan_size_*.json` has all at full size.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.support.reference import REPOSITORY

MAX_MEMORY_GIB = 16


@pytest.mark.parametrize(
    ("stage", "num_layers", "weights_mb", "max_kernels_a_layer"),
    [
        # SigLIP so400m, 384 px, 26 of 27 layers; 411 M weights of 16 bits.
        pytest.param(["vision"], 26, 790, 10, id="so400m"),
        # CLIP ViT-L/14, 224 px; 304 M weights of 16 bits. 10 kernels a layer, and 7 around them.
        pytest.param(["clip"], 24, 600, 11, id="clip_vit_l"),
        # 28 layers, head size and S of the real decoder, at a seventh of its width.
        pytest.param(["scorer"], 28, 210, 16, id="qwen2_narrow"),
        # EVA-g, heads of 88, and the Q-Former, whose first layer reads it: 5 attentions. At full
        # depth 57 in 520 kernels.
        pytest.param(["vtgllm", "--num-layers", "2"], 5, 135, 14, id="eva_g"),
        # CLIP ViT-L/14 at 336 px and InternVideo2, heads of 88. At full depth 62 in 672 kernels.
        pytest.param(["grounded_videollm", "--num-layers", "2"], 4, 240, 17, id="internvideo2"),
    ],
)
def test_a_full_size_plan_is_fused_in_every_layer(
    tmp_path, stage, num_layers, weights_mb, max_kernels_a_layer
):
    options = ["--gpu-arch", "sm_89", "--gpu-arch", "sm_120"]
    command = [sys.executable, "-m", "benchmarks.plan_size", *stage, *options, str(tmp_path)]
    run = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)["results"]
    print(result)  # noqa: T201 - pytest shows it with -s
    assert result["num_layers"] == num_layers
    assert result["num_attention_layers"] == result["num_fused_kernels"] == num_layers
    # Of vision: 244. With three products, or one divided by columns: 296.
    assert num_layers < result["num_kernels"] < max_kernels_a_layer * num_layers
    assert result["weights_bytes"] > weights_mb * 1e6
    assert result["plan_bytes"] == (tmp_path / "model.plan").stat().st_size
    assert result["peak_memory_gib"] < MAX_MEMORY_GIB
