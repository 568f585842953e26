"""How far from float64 are the variants of the vision plan, each beside the bound on it?

    python -m benchmarks.vision_variant_errors [--num-layers 26] [--dtype bfloat16] [--out JSON]

SigLIP so400m's widths, weights of noise, one frame of noise, PyTorch on a CPU. What kernels do
inside is for `benchmarks.gpu_check`.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks._report import write_report
from benchmarks.gpu.models import fill_with_noise, random_request, relative_error
from benchmarks.gpu.size import FULL
from benchmarks.gpu.vision_variants import VARIANTS, error_bound, make_variant
from groundserve.families.videoitg.vision import VisionEncoder


def main() -> None:
    """Measure every variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-layers", type=int, default=26)
    parser.add_argument("--dtype", choices=["bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    dtype = getattr(torch, args.dtype)
    tower = replace(FULL.tower, num_hidden_layers=args.num_layers)
    with torch.device("meta"):
        model = VisionEncoder(tower, select_layer=-1)
    fill_with_noise(model, dtype=torch.float32, device="cpu", seed=2)
    request = random_request(FULL, 1, device="cpu")
    inputs = request.frames, torch.from_numpy(request.pooling)[None]
    results: dict[str, object] = {"num_layers": args.num_layers, "dtype": args.dtype}
    with torch.inference_mode():
        expected = copy.deepcopy(model).double()(*inputs)
        for name in VARIANTS:
            features = make_variant(model, name, dtype=dtype)(*inputs)
            results[name] = {
                "relative_error": relative_error(features, expected),
                "error_bound": error_bound(name, num_layers=args.num_layers, dtype=dtype),
            }
    write_report(args.out, "errors of the vision plan's variants against float64", results)


if __name__ == "__main__":
    main()
