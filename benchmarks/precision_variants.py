"""What does each kind of operator cost in 16 bit?

    python -m benchmarks.precision_variants [--dtype bfloat16|float16] [--num-layers N] [--out JSON]

For `digits` and for random weights of the real widths: errors against float32 of the engines'
arithmetic, and of variants that round one more kind of operator. Run in PyTorch on a CPU.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks._report import write_report
from benchmarks.gpu.parity import digits_videos
from benchmarks.plan_size import decoder_config
from engine_build.families.mixed_layers import LayerNorm, RMSNorm
from engine_build.families.videoitg import mixed_precision
from engine_build.families.videoitg.mixed_precision import (
    MixedTokenScorer,
    MixedVisionEncoder,
)
from groundserve.families.videoitg.checkpoint import Checkpoint
from groundserve.families.videoitg.config import KNOWN_TOWERS
from groundserve.families.videoitg.decoder import GroundingModel
from groundserve.families.videoitg.grid import grid_side, pooling_weights
from groundserve.families.videoitg.prompt import QueryTokenizer
from groundserve.families.videoitg.vision import VisionEncoder
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT

VISION_KINDS = ("patches", "norm", "activation", "residual", "pooling")
SCORER_KINDS = ("norm", "activation", "residual", "rotary")


@dataclass(frozen=True)
class Errors:
    """Errors of an output against float32, relative to its root mean square."""

    rms: float
    largest: float

    @classmethod
    def between(cls, got: Tensor, expected: Tensor) -> Errors:
        """Compare two tensors of one shape."""
        difference = got.float() - expected.float()
        scale = expected.float().pow(2).mean().sqrt()
        return cls(
            float(difference.pow(2).mean().sqrt() / scale), float(difference.abs().max() / scale)
        )


@dataclass(frozen=True)
class Video:
    """Frames of one rendered video and the questions asked of it."""

    frames: Tensor
    pool: Tensor
    text_ids: list[Tensor]


def digits_video(checkpoint: Checkpoint, *, num_frames: int = 48) -> Video:
    """Return the first seconds of a held-out video."""
    frames, texts = digits_videos(checkpoint.vision_config.image_size)[0]
    side = checkpoint.vision_config.side
    grid = grid_side(num_frames, vision_token_num=checkpoint.config.vision_token_num, side=side)
    pool = torch.from_numpy(pooling_weights(grid, side=side)).expand(num_frames, -1, -1)
    tokenizer, pad = checkpoint.load_tokenizer()
    tokenize = QueryTokenizer(tokenizer, pad_token_id=pad).text_ids
    ids = [torch.from_numpy(tokenize(text)) for text in texts]
    return Video(torch.from_numpy(frames[:num_frames]), pool, ids)


def round_kind(model: nn.Module, kind: str, dtype: torch.dtype) -> list[mock._patch[object]]:
    """Make one kind of operator round its inputs and results to 16 bit."""

    def rounded(tensor: Tensor) -> Tensor:
        return tensor.to(dtype).float()

    if kind == "patches":
        for name in ("patch_weight", "patch_bias", "positions"):
            setattr(model, name, nn.Parameter(rounded(getattr(model, name)), requires_grad=False))
        embed = model.embed_patches
        return [mock.patch.object(model, "embed_patches", lambda pixels: rounded(embed(pixels)))]
    if kind == "pooling":
        layers_last = model.layers[-1]
        return [mock.patch.object(layers_last, "forward", _after(layers_last.forward, rounded))]
    if kind == "norm":
        norms = [m for m in model.modules() if isinstance(m, LayerNorm | RMSNorm)]
        return [mock.patch.object(m, "forward", _norm_in(m, dtype)) for m in norms]
    if kind == "activation":
        if isinstance(model, MixedTokenScorer):
            # Each tensor operation in PyTorch rounds its result to its operands' dtype.
            silu = mock.Mock(wraps=lambda x: (x.to(dtype) * torch.sigmoid(x.to(dtype))).float())
            return [mock.patch.object(mixed_precision.F, "silu", silu)]
        return [
            mock.patch.object(one.activation, "forward", _gelu_in(dtype)) for one in model.layers
        ]
    if kind == "rotary":

        def in_16_bit(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
            first, second = heads.chunk(2, dim=-1)
            turned = torch.cat([-second, first], dim=-1)
            return heads * cos.to(dtype) + turned * sin.to(dtype)

        return [mock.patch.object(mixed_precision, "_rotate", in_16_bit)]
    assert kind == "residual"
    return [
        mock.patch.object(layer, "forward", _residual_rounded(layer, rounded))
        for layer in model.layers
    ]


def _after(
    function: Callable[..., Tensor], then: Callable[[Tensor], Tensor]
) -> Callable[..., Tensor]:
    return lambda *args, **kwargs: then(function(*args, **kwargs))


def _norm_in(norm: nn.Module, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Normalise operation by operation in 16 bit; sums alone are taken in float32."""

    def run(inputs: Tensor) -> Tensor:
        x, weight = inputs.to(dtype), norm.weight.to(dtype)
        if isinstance(norm, LayerNorm):
            x = x - x.mean(-1, keepdim=True)
        x = x / torch.sqrt((x * x).mean(-1, keepdim=True) + norm.epsilon) * weight
        return (x + norm.bias.to(dtype) if isinstance(norm, LayerNorm) else x).float()

    return run


def _gelu_in(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """GELU's tanh form, operation by operation in 16 bit."""

    def run(inputs: Tensor) -> Tensor:
        x = inputs.to(dtype)
        inner = (x + x * x * x * 0.044715) * (2 / math.pi) ** 0.5
        return (x * 0.5 * (torch.tanh(inner) + 1)).float()

    return run


def _residual_rounded(
    layer: nn.Module, rounded: Callable[[Tensor], Tensor]
) -> Callable[..., Tensor]:
    """Round the sum after attention and the sum after the MLP."""
    forward = layer.forward

    def run(residual: Tensor, *tables: Tensor) -> Tensor:
        middle: list[Tensor] = []
        norm_2 = layer.norm_2.forward

        def catch(sums: Tensor) -> Tensor:
            middle.append(sums)
            return norm_2(rounded(sums))

        with mock.patch.object(layer.norm_2, "forward", catch):
            out = forward(residual, *tables)
        return rounded(rounded(middle[0]) + (out - middle[0]))

    return run


def variants(
    make: Callable[[torch.dtype], nn.Module],
    run: Callable[[nn.Module], Tensor],
    kinds: tuple[str, ...],
    dtype: torch.dtype,
    *,
    each: bool,
) -> dict[str, Errors]:
    """Return errors of the engines' arithmetic, of each variant if asked, and of all at once."""
    with torch.inference_mode():
        expected = run(make(torch.float32))
        results = {}
        for name in ("engine", *(kinds if each else ()), "all"):
            model = make(dtype)
            chosen = {"engine": (), "all": kinds}.get(name, (name,))
            patches = [patch for kind in chosen for patch in round_kind(model, kind, dtype)]
            for patch in patches:
                patch.start()
            try:
                results[name] = Errors.between(run(model), expected)
            finally:
                for patch in reversed(patches):
                    patch.stop()
    return results


def digits_variants(
    dtype: torch.dtype, *, num_frames: int = 48, each: bool = True
) -> dict[str, dict[str, Errors]]:
    """Features of a rendered video; logits of its questions from float32 features."""
    checkpoint = Checkpoint.open(SHIPPED_CHECKPOINT)
    video = digits_video(checkpoint, num_frames=num_frames)
    vision, grounding = checkpoint.load_vision(), checkpoint.load_grounding()
    with torch.inference_mode():
        features = vision(video.frames, video.pool)
        visual = grounding.projector(features).flatten(0, 1)
        sequences = [
            torch.cat([visual, grounding.decoder.embed_tokens(ids)]) for ids in video.text_ids
        ]
    num_visual, num_frames = len(visual), len(features)

    def logits(model: MixedTokenScorer) -> Tensor:
        scores = [model(one.to(model.dtype))[:num_visual] for one in sequences]
        return torch.stack([one.reshape(num_frames, -1).mean(dim=1) for one in scores])

    return {
        "vision": variants(
            lambda dtype: MixedVisionEncoder(vision, dtype=dtype),
            lambda model: model(video.frames, video.pool),
            VISION_KINDS,
            dtype,
            each=each,
        ),
        "scorer": variants(
            lambda dtype: MixedTokenScorer(
                grounding, dtype=dtype, max_tokens=max(map(len, sequences))
            ),
            logits,
            SCORER_KINDS,
            dtype,
            each=each,
        ),
    }


def random_variants(dtype: torch.dtype, *, num_layers: int) -> dict[str, dict[str, Errors]]:
    """The same for random weights of the real tower's widths and a narrower decoder."""
    torch.manual_seed(0)
    tower = KNOWN_TOWERS["siglip-so400m-patch14-384"]
    vision = VisionEncoder(tower, select_layer=num_layers).eval()
    frames = torch.randint(0, 256, (1, 384, 384, 3), dtype=torch.uint8)
    pool = torch.from_numpy(pooling_weights(5, side=27))[None]
    config = decoder_config(
        num_layers=num_layers,
        hidden_size=512,
        num_heads=4,
        num_kv_heads=1,
        intermediate_size=2048,
    )
    grounding = GroundingModel(config).eval()
    embeds = torch.randn(700, 512)
    return {
        "vision": variants(
            lambda dtype: MixedVisionEncoder(vision, dtype=dtype),
            lambda model: model(frames, pool),
            VISION_KINDS,
            dtype,
            each=True,
        ),
        "scorer": variants(
            lambda dtype: MixedTokenScorer(grounding, dtype=dtype, max_tokens=700),
            lambda model: model(embeds.to(model.dtype)),
            SCORER_KINDS,
            dtype,
            each=True,
        ),
    }


def main() -> None:
    """Measure one dtype."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-layers", type=int, default=26, help="of the random models")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--dtype", choices=["bfloat16", "float16"], default="bfloat16")
    args = parser.parse_args()
    dtype, num_layers = getattr(torch, args.dtype), args.num_layers
    by_weights = {
        "digits": digits_variants(dtype),
        "random": random_variants(dtype, num_layers=num_layers),
    }
    results = {
        f"{weights}, {stage}": {name: asdict(error) for name, error in errors.items()}
        for weights, stages in by_weights.items()
        for stage, errors in stages.items()
    }
    settings = {"dtype": args.dtype, "num_layers_of_random_weights": num_layers}
    write_report(args.out, "what each kind of operator costs in 16 bit", settings | results)


if __name__ == "__main__":
    main()
