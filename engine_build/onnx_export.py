"""Export the two heavy stages to ONNX, with attention that never holds a T x T tensor.

`vision_encoder.onnx`: PIXELS uint8 (n,S,S,3), POOL float32 (n,g,s) -> FEATURES float32 (n,g*g,D_v).
`grounding.onnx`: FEATURES float32 (T,P,D_v), TEXT_IDS int64 (L,) -> FRAME_LOGITS float32 (T,).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from transformers import AttentionInterface

from groundserve.errors import GroundserveError
from groundserve.families.videoitg.decoder import GroundingModel
from groundserve.families.videoitg.vision import VisionEncoder

OPSET = 20
_ATTENTION_NAME = "groundserve_onnxruntime"


def export_vision_encoder(model: VisionEncoder, path: Path) -> None:
    """Write the vision stage; dynamic n and g, normalisation inside.

    Args:
        model: In float32; its patches are a matrix product from here on.
        path: File to write; weights of more than 2 GB go to `<path>.data` beside it.
    """
    side, size = model.side, model.image_size
    # Two frames: the exporter would take one for a constant.
    pixels = torch.zeros((2, size, size, 3), dtype=torch.uint8)
    pool = torch.zeros((2, min(3, side), side))
    n, g = Dim("n", min=1), Dim("g", min=1, max=side)
    # See `VisionEncoder`: reads the pixels as they lie.
    model.patches_as_matmul = True
    with _exportable_attention(model):
        export_graph(
            model,
            (pixels, pool),
            path,
            inputs=["PIXELS", "POOL"],
            output="FEATURES",
            dynamic_shapes={"pixels": {0: n}, "pool": {0: n, 1: g}},
        )


def export_grounding(model: GroundingModel, path: Path) -> None:
    """Write the grounding stage; dynamic T, tokens a frame and text length.

    Args:
        model: In float32.
        path: File to write; weights of more than 2 GB go to `<path>.data` beside it.
    """
    features = torch.zeros((3, 4, model.vision_hidden_size))
    text_ids = torch.zeros(5, dtype=torch.int64)
    with _exportable_attention(model.decoder):
        export_graph(
            model,
            (features, text_ids),
            path,
            inputs=["FEATURES", "TEXT_IDS"],
            output="FRAME_LOGITS",
            dynamic_shapes={
                "features": {0: Dim("t", min=1), 1: Dim("p", min=1)},
                "text_ids": {0: Dim("l", min=1)},
            },
        )


def export_graph(
    model: nn.Module,
    example: tuple[Tensor, ...],
    path: Path,
    *,
    inputs: list[str],
    output: str,
    dynamic_shapes: dict[str, Any],
    opset: int = OPSET,
    weights_apart: bool = False,
) -> None:
    """Write one ONNX graph.

    Args:
        model: The graph's module, with one output.
        example: Inputs to trace it with.
        path: File to write.
        inputs: Names of the graph's inputs.
        output: Name of its output.
        dynamic_shapes: Of each parameter of `forward`, the dimensions that may vary.
        opset: Version of the ONNX operators.
        weights_apart: Whether the weights go to `<path>.data`, which may be larger than 2 GiB and
            is mapped, not read, by who opens the graph.

    Raises:
        GroundserveError: The exporter gave no program.
    """
    with warnings.catch_warnings(), _quiet_exporter():
        # The exporter warns about its own internals (deprecated tree helpers, absent torchvision).
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            example,
            dynamo=True,
            opset_version=opset,
            input_names=inputs,
            output_names=[output],
            dynamic_shapes=dynamic_shapes,
            verbose=False,
        )
    if program is None:
        raise GroundserveError(f"exporting {path.name} gave no program")
    # None leaves it to the size; True forces a file of its own.
    program.save(str(path), external_data=weights_apart or None)


def _onnxruntime_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """Emit `com.microsoft.MultiHeadAttention`; tensors come in as (B, heads, S, head size)."""
    if attention_mask is not None:
        raise GroundserveError("an attention mask reached the exported graph")
    batch, num_heads, length, head_size = query.shape
    groups = num_heads // key.shape[1]

    def packed(heads: Tensor) -> Tensor:
        return heads.transpose(1, 2).reshape(batch, length, num_heads * head_size)

    attended = torch.onnx.ops.symbolic(
        # ONNX Runtime's own operator, computed block by block on a CPU: no T x T tensor.
        "com.microsoft::MultiHeadAttention",
        (
            packed(query),
            # The operator has as many key heads as query heads.
            packed(key.repeat_interleave(groups, dim=1)),
            packed(value.repeat_interleave(groups, dim=1)),
        ),
        {"num_heads": num_heads, "scale": float(scaling)},
        dtype=query.dtype,
        shape=(batch, length, num_heads * head_size),
        version=1,
    )
    return attended.reshape(batch, length, num_heads, head_size), None


@contextmanager
def _exportable_attention(model: VisionEncoder | nn.Module) -> Iterator[None]:
    AttentionInterface.register(_ATTENTION_NAME, _onnxruntime_attention)
    config: Any = model.config
    # Set back after the export: the caller goes on with the model in PyTorch.
    previous = config._attn_implementation
    config._attn_implementation = _ATTENTION_NAME
    try:
        yield
    finally:
        config._attn_implementation = previous


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
