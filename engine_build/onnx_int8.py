"""Quantize the linear layers of an exported vision stage: int8 weights, uint8 activations.

Weights get one scale for each output channel, once. Activations get one scale and zero point for
each unit and product, while they are computed: the graph takes one unit at a time, or the frames of
a batch, which may belong to another video, would decide how this one is rounded.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto

from groundserve import extras
from groundserve.errors import GroundserveError


def quantize_vision_encoder(path: Path) -> None:
    """Rewrite the graph of a vision stage in place.

    In 8 bits are the layers: products with constant weights behind the first normalisation. Patch
    embedding, norms, attention's own products, activations and pooling stay as they are.
    """
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    quantize_products(model, path, behind_norm=True)
    # The weights in float32, where they were too many for one file.
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)


def quantize_products(model: ModelProto, path: Path, *, behind_norm: bool) -> None:
    """Write a graph whose products with constant weights are of integers; the model is changed.

    `behind_norm`, those before the first normalisation stay as they are.
    """
    quantization = extras.load("onnxruntime.quantization", "serve")
    names = _name_products(model, behind_norm=behind_norm)
    if not names:
        raise GroundserveError(f"{path.name} has no linear layers to quantize; build it in fp32")
    # Shapes that the exporter noted may not be those that the quantizer infers.
    del model.graph.value_info[:]
    # Its pre-processing optimises the graph, as the session does that opens it; this keeps the
    # quantizer from advising that.
    quantization.quant_utils.add_pre_process_metadata(model)
    quantization.quantize_dynamic(
        model,
        path,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=quantization.QuantType.QInt8,
        nodes_to_quantize=names,
        # Behind ONNX Runtime's own operators nothing can be inferred; all activations are float32.
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )


def _name_products(model: ModelProto, *, behind_norm: bool) -> list[str]:
    """Return the names of the products to quantize, which get one where they have none."""
    constants = {one.name for one in model.graph.initializer}
    normalised: set[str] = set()
    names = []
    for number, node in enumerate(model.graph.node):  # in topological order
        if node.op_type.endswith("Normalization") or not normalised.isdisjoint(node.input):
            normalised.update(node.output)
        elif behind_norm:
            continue
        if node.op_type == "MatMul" and node.input[1] in constants:
            node.name = node.name or f"product_{number}"
            names.append(node.name)
    return names
