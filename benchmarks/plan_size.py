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
from typing import TypeVar

import torch
from torch import nn

from benchmarks._report import write_report
from benchmarks.gpu.size import FULL
from benchmarks.gpu.vision_inputs import vision_inputs
from engine_build.families.videoitg.mixed_precision import MixedTokenScorer, MixedVisionEncoder
from engine_build.onnx_tensorrt import export_mixed_vision_encoder, export_token_scorer
from engine_build.tensorrt_plan import build_plan, token_scorer_shapes, vision_shapes
from engine_build.triton.__main__ import REFERENCE_FAMILY, REFERENCE_MODEL
from groundserve.engines.tensorrt_library import TensorRTTarget
from groundserve.families.default_video import default_plan
from groundserve.families.videoitg.config import KNOWN_TOWERS, CheckpointConfig
from groundserve.families.videoitg.decoder import GroundingModel
from groundserve.families.videoitg.vision import VisionEncoder

_Model = TypeVar("_Model", bound=nn.Module)

MAX_TOKENS = 20_480


def random_vision() -> MixedVisionEncoder:
    """Return SigLIP so400m, 384 px, as far as its last layer but one."""
    with torch.device("meta"):
        tower = KNOWN_TOWERS["siglip-so400m-patch14-384"]
        model = VisionEncoder(tower, select_layer=-2).to(torch.bfloat16)
    return MixedVisionEncoder(filled(model), dtype=torch.bfloat16)


def decoder_config(
    *, num_layers: int, hidden_size: int, num_heads: int, num_kv_heads: int, intermediate_size: int
) -> CheckpointConfig:
    """Return a decoder of Qwen2's shape, in the sizes given."""
    return replace(
        FULL.checkpoint,
        vocab_size=16,
        mm_hidden_size=8,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=num_kv_heads,
    )


def random_scorer(config: CheckpointConfig) -> MixedTokenScorer:
    """Return a decoder and head of these sizes."""
    with torch.device("meta"):
        model = GroundingModel(config).to(torch.bfloat16)
    model = filled(model)
    head_size = config.hidden_size // config.num_attention_heads
    half = torch.arange(0, head_size, 2) / head_size
    model.decoder.rotary_emb.inv_freq = config.rope_theta**-half
    return MixedTokenScorer(model, dtype=torch.bfloat16, max_tokens=MAX_TOKENS)


def filled(model: _Model) -> _Model:
    """Draw the weights in their final dtype; in float32 they would take twice the memory."""
    model = model.to_empty(device="cpu").requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(0, 0.02)
    return model.eval()


def main() -> None:
    """Export and build one plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=["vision", "scorer"])
    parser.add_argument("directory", type=Path, help="empty folder for graph and plan")
    parser.add_argument("--gpu-arch", action="append", required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--num-layers", type=int, help="of the scorer")
    parser.add_argument("--hidden-size", type=int, default=512, help="of the scorer")
    parser.add_argument("--num-heads", type=int, default=4, help="of the scorer")
    parser.add_argument("--num-kv-heads", type=int, default=1, help="of the scorer")
    parser.add_argument("--intermediate-size", type=int, default=2048, help="of the scorer")
    args = parser.parse_args()
    graph = args.directory / "model.onnx"
    started = time.perf_counter()
    if args.stage == "vision":
        encoder = random_vision()
        inputs, usual = vision_inputs(encoder)
        shapes = vision_shapes(inputs, usual)
        num_layers = len(encoder.layers)
        export_mixed_vision_encoder(encoder, graph, inputs)
        del encoder
    else:
        sizes = ("hidden_size", "num_heads", "num_kv_heads", "intermediate_size")
        of_scorer = {name: getattr(args, name) for name in sizes}
        scorer = random_scorer(decoder_config(num_layers=args.num_layers or 28, **of_scorer))
        usual = default_plan(REFERENCE_FAMILY, REFERENCE_MODEL)
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
