"""Export the two heavy stages for TensorRT: 16-bit products, attention as one operator.

`vision_encoder.onnx`: the inputs of the family's vision stage -> FEATURES float16 (U,P,D).
`grounding.onnx`: INPUTS_EMBEDS 16 bit (S,D) -> TOKEN_SCORES float32 (S,).

Attention is the `Attention` operator of opset 23, which TensorRT's parser reads since 10.14. It
takes fewer key-value heads than heads as they are, has no mask here, and becomes an `IAttention`
that TensorRT must not take apart: a build either uses a fused kernel or fails. Of the operators
that are as new, the graphs use no other. The plain MatMul-Softmax-MatMul of opset 20 is fused into
the same kernels in 16 bit, but a graph whose pattern is not recognised builds all the same, and
needs S x S memory when it runs.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch.export import Dim

from engine_build.families.modules import MixedVisionModule, TokenScorerModule
from engine_build.onnx_export import export_graph, export_vision_graph
from groundserve.families.vision_inputs import VisionInputs

TENSORRT_OPSET = 23


def export_mixed_vision_encoder(
    model: MixedVisionModule, path: Path, inputs: VisionInputs, *, opset: int = TENSORRT_OPSET
) -> None:
    """Write the vision stage, in any precision; dynamic in the units and what the plan varies.

    With an opset below 23, for comparisons, attention becomes MatMul-Softmax-MatMul.
    """
    export_vision_graph(model, path, inputs, opset=opset, weights_apart=True)


def export_token_scorer(
    model: TokenScorerModule, path: Path, *, opset: int = TENSORRT_OPSET
) -> None:
    """Write the grounding stage's decoder and head, in any precision; dynamic S."""
    # Any length but 1, which the exporter would take for a constant.
    embeds = torch.zeros((5, model.hidden_size), dtype=model.dtype)
    export_graph(
        model,
        (embeds,),
        path,
        inputs=["INPUTS_EMBEDS"],
        output="TOKEN_SCORES",
        dynamic_shapes=({0: Dim("s", min=1, max=model.max_tokens)},),
        opset=opset,
        weights_apart=True,
    )
