"""Quantize the linear layers of an exported vision stage: int8 weights, uint8 activations.

Weights get one scale for each output channel, once. Activations get one scale and zero point for
each unit and product, while they are computed: the graph takes one unit at a time, or the frames of
a batch, which may belong to another video, would decide how this one is rounded.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto

from groundserve.errors import GroundserveError, MissingExtraError


def quantize_vision_encoder(path: Path) -> None:
    """Rewrite the graph of a vision stage in place.

    Args:
        path: As `engine_build.onnx_export.export_vision_encoder` has written it.

    Raises:
        MissingExtraError: ONNX Runtime, whose quantizer this is, is not installed.
        GroundserveError: The graph has no linear layers.
    """
    model = onnx.load(path)
    _take_one_unit(model)
    quantize_layers(model, path)
    # The weights in float32, where they were too many for one file.
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)


def quantize_layers(model: ModelProto, path: Path) -> None:
    """Write a graph with its linear layers in int8.

    Products with constant weights behind the first normalisation become products of integers.
    Patch embedding, norms, attention's own products, activations and pooling stay as they are.

    Args:
        model: In float32; is changed.
        path: File to write.

    Raises:
        MissingExtraError: As above.
        GroundserveError: As above.
    """
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
        from onnxruntime.quantization.quant_utils import add_pre_process_metadata
    except ImportError as error:
        raise MissingExtraError("serve", "onnxruntime") from error

    layers = _name_linear_layers(model)
    if not layers:
        raise GroundserveError(f"{path.name} has no linear layers to quantize; build it in fp32")
    # Shapes that the exporter noted may not be those that the quantizer infers.
    del model.graph.value_info[:]
    # Its pre-processing optimises the graph, as the session does that opens it; this keeps the
    # quantizer from advising that.
    add_pre_process_metadata(model)
    quantize_dynamic(
        model,
        path,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        nodes_to_quantize=layers,
        # Behind ONNX Runtime's own operators nothing can be inferred; all activations are float32.
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )


def _take_one_unit(model: ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1


def _name_linear_layers(model: ModelProto) -> list[str]:
    """Return the names of the products to quantize, which get one where they have none."""
    constants = {one.name for one in model.graph.initializer}
    behind_norm: set[str] = set()
    names = []
    for number, node in enumerate(model.graph.node):  # in topological order
        if node.op_type.endswith("Normalization"):
            behind_norm.update(node.output)
        if behind_norm.isdisjoint(node.input):
            continue
        behind_norm.update(node.output)
        if node.op_type == "MatMul" and node.input[1] in constants:
            node.name = node.name or f"product_{number}"
            names.append(node.name)
    return names
