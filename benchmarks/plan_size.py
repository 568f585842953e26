"""How large is a full-size TensorRT plan, and what does building it take?

    python -m benchmarks.plan_size vision DIR --gpu-arch sm_89 [--gpu-arch ...] [--out JSON]
    python -m benchmarks.plan_size scorer DIR --gpu-arch sm_89 [--hidden-size 3584 ...]

Random weights of 16 bits; graph and plan stay in DIR. Peak memory is that of the whole process.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch

from benchmarks._report import write_report
from benchmarks.gpu.models import random_grounding, random_vision
from benchmarks.gpu.size import FULL
from engine_build.families.videoitg.mixed_precision import MixedTokenScorer, MixedVisionEncoder
from engine_build.onnx_tensorrt import export_mixed_vision_encoder, export_token_scorer
from engine_build.tensorrt_plan import build_plan, token_scorer_shapes, vision_shapes
from engine_build.triton.__main__ import REFERENCE_FAMILY, REFERENCE_MODEL
from groundserve.engines.tensorrt_library import TensorRTTarget
from groundserve.families.default_video import default_plan
from groundserve.families.vision_inputs import VisionInputs

MAX_TOKENS = 20_480
DTYPE = torch.bfloat16


def random_scorer(args: argparse.Namespace) -> MixedTokenScorer:
    """Return a decoder of Qwen2's shape with its head, in the sizes asked for."""
    config = replace(
        FULL.checkpoint,
        vocab_size=16,
        mm_hidden_size=8,
        hidden_size=args.hidden_size,
        intermediate_size=args.intermediate_size,
        num_hidden_layers=args.num_layers,
        num_attention_heads=args.num_heads,
        num_key_value_heads=args.num_kv_heads,
    )
    model = random_grounding(replace(FULL, checkpoint=config), dtype=DTYPE, device="cpu")
    return MixedTokenScorer(model, dtype=DTYPE, max_tokens=MAX_TOKENS)


def main() -> None:
    """Export and build one plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=["vision", "scorer"])
    parser.add_argument("directory", type=Path, help="empty folder for graph and plan")
    parser.add_argument("--gpu-arch", action="append", required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--num-layers", type=int, default=28, help="of the scorer")
    parser.add_argument("--hidden-size", type=int, default=512, help="of the scorer")
    parser.add_argument("--num-heads", type=int, default=4, help="of the scorer")
    parser.add_argument("--num-kv-heads", type=int, default=1, help="of the scorer")
    parser.add_argument("--intermediate-size", type=int, default=2048, help="of the scorer")
    args = parser.parse_args()
    graph = args.directory / "model.onnx"
    usual = default_plan(REFERENCE_FAMILY, REFERENCE_MODEL)
    started = time.perf_counter()
    if args.stage == "vision":
        # SigLIP so400m, 384 px, as far as its last layer but one.
        encoder = MixedVisionEncoder(random_vision(FULL, dtype=DTYPE, device="cpu"), dtype=DTYPE)
        inputs = VisionInputs.of(REFERENCE_FAMILY, REFERENCE_MODEL)
        shapes, num_layers = vision_shapes(inputs, usual), len(encoder.layers)
        export_mixed_vision_encoder(encoder, graph, inputs)
        del encoder
    else:
        scorer = random_scorer(args)
        shapes = token_scorer_shapes(
            hidden_size=scorer.hidden_size, max_tokens=MAX_TOKENS, usual=usual
        )
        num_layers = len(scorer.layers)
        export_token_scorer(scorer, graph)
        del scorer
    exported = time.perf_counter()
    report = build_plan(
        graph,
        args.directory / "model.plan",
        target=TensorRTTarget.choose(args.gpu_arch),
        shapes=shapes,
        num_layers=num_layers,
    )
    result = {
        **asdict(report),
        "num_layers": num_layers,
        "export_seconds": exported - started,
        "weights_bytes": graph.with_name("model.onnx.data").stat().st_size,
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2,
    }
    write_report(args.out, "size of a full-size plan, and what building it takes", result)


if __name__ == "__main__":
    main()
