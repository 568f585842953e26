"""Does one product for query, key and value make the vision encoder faster on a CPU?

    python -m benchmarks.fused_qkv [--num-layers 2] [--frames 4] [--pairs 40] [--out JSON]

SigLIP so400m at 384 pixels with as many layers as are asked for, random weights, ONNX Runtime in
float32: the graph that is exported, one with a fused product before the same attention operator,
and one with ONNX Runtime's `Attention`, which has the product inside. They run in turn; times are
given as ratios of neighbours. The answer (no) is why `engine_build.onnx_export` keeps three.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.models.siglip.modeling_siglip import SiglipAttention

from benchmarks._report import write_report
from benchmarks.gpu.vision_inputs import vision_inputs
from engine_build.onnx_export import export_vision_encoder
from groundserve.families.videoitg.config import KNOWN_TOWERS
from groundserve.families.videoitg.grid import pooling_weights
from groundserve.families.videoitg.vision import VisionEncoder
from python_backend.onnx_session import open_session

_GRID = 5
_NUM_THREADS = 2


class FusedAttention(nn.Module):
    """SigLIP's attention with one product before ONNX Runtime's attention operator."""

    def __init__(self, attention: SiglipAttention) -> None:
        super().__init__()
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        # (D_v, 3 * D_v), as both operators multiply.
        weight = torch.cat([part.weight for part in parts]).T.contiguous()
        self.weight = nn.Parameter(weight, requires_grad=False)
        bias = torch.cat([part.bias for part in parts])
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.out_proj = attention.out_proj
        self.attributes = {"num_heads": attention.num_heads, "scale": float(attention.scale)}

    def forward(self, hidden_states: Tensor, **_: Any) -> tuple[Tensor, None]:
        """(n, P, D_v) -> the same."""
        attended = self._operator("MultiHeadAttention", *self._project(hidden_states))
        return self.out_proj(attended), None

    def _project(self, hidden_states: Tensor) -> tuple[Tensor, ...]:
        return (hidden_states @ self.weight + self.bias).chunk(3, dim=-1)

    def _operator(self, name: str, first: Tensor, *others: Tensor) -> Tensor:
        attended: Tensor = torch.onnx.ops.symbolic(
            f"com.microsoft::{name}",
            (first, *others),
            self.attributes,
            dtype=first.dtype,
            shape=first.shape,
            version=1,
        )
        return attended


class ProjectingAttention(FusedAttention):
    """The same with the product inside the operator."""

    def forward(self, hidden_states: Tensor, **_: Any) -> tuple[Tensor, None]:
        """(n, P, D_v) -> the same."""
        attended = self._operator("Attention", hidden_states, self.weight, self.bias)
        return self.out_proj(attended), None


VARIANTS = {"fused product": FusedAttention, "inside the operator": ProjectingAttention}


def random_vision(num_layers: int) -> VisionEncoder:
    """Return the tower with its first layers."""
    torch.manual_seed(0)
    tower = replace(KNOWN_TOWERS["siglip-so400m-patch14-384"], num_hidden_layers=num_layers)
    return VisionEncoder(tower, select_layer=-1).eval().requires_grad_(False)


def open_variants(model: VisionEncoder, directory: Path) -> dict[str, Any]:
    """Export the graph that ships and each variant; return their sessions."""
    graphs = {"as exported": model}
    for name, attention in VARIANTS.items():
        graphs[name] = deepcopy(model)
        for layer in graphs[name].encoder.layers:
            layer.self_attn = attention(layer.self_attn)
    sessions = {}
    inputs, _ = vision_inputs(model)
    for name, graph in graphs.items():
        path = directory / f"{name.replace(' ', '_')}.onnx"
        export_vision_encoder(graph, path, inputs)
        sessions[name] = open_session(path, num_threads=_NUM_THREADS)
    return sessions


def time_in_pairs(
    calls: Mapping[str, Callable[[], Any]], *, pairs: int
) -> dict[str, list[tuple[float, float]]]:
    """Return for each call its (wall, processor) seconds; the order turns from pair to pair."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    names = list(calls)
    for call in calls.values():
        call()
    for number in range(pairs):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            wall, processor = time.perf_counter(), time.process_time()
            calls[name]()
            times[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return times


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-layers", type=int, default=2)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    model = random_vision(args.num_layers)
    size = (args.frames, model.image_size, model.image_size, 3)
    pool = np.repeat(pooling_weights(_GRID, side=model.side)[None], args.frames, axis=0)
    inputs = {
        "PIXELS": np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8),
        "POOL": pool,
    }
    with tempfile.TemporaryDirectory() as scratch:
        sessions = open_variants(model, Path(scratch))
        (expected,) = sessions["as exported"].run(None, inputs)
        calls = {
            name: lambda session=session: session.run(None, inputs)
            for name, session in sessions.items()
        }
        times = time_in_pairs(calls, pairs=args.pairs)
        results: dict[str, Any] = {
            "num_layers": args.num_layers,
            "frames": args.frames,
            "threads": _NUM_THREADS,
            "pairs": args.pairs,
            "as exported, wall seconds, median": float(
                np.median([wall for wall, _ in times["as exported"]])
            ),
        }
        for name in VARIANTS:
            (features,) = sessions[name].run(None, inputs)
            error = np.abs(features - expected).max() / np.abs(expected).max()
            results[name] = {"relative_difference": float(error)}
            for place, clock in enumerate(("wall", "processor")):
                ratios = [
                    one[place] / other[place]
                    for one, other in zip(times[name], times["as exported"], strict=True)
                ]
                p10, median, p90 = np.percentile(ratios, [10, 50, 90])
                results[name][f"{clock}_time_over_exported"] = {
                    "median": float(median),
                    "p10": float(p10),
                    "p90": float(p90),
                }
    write_report(args.out, "one product for query, key and value in ONNX Runtime", results)


if __name__ == "__main__":
    main()
