"""Export the two heavy stages to ONNX, with attention that never holds a T x T tensor.

`vision_encoder.onnx`: the inputs of the family's vision stage -> FEATURES float32 (U,P,D).
`grounding.onnx`: FEATURES float32 (T,P,D), TEXT_IDS int64 (L,) -> FRAME_LOGITS float32 (T,).
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from onnxscript import ir
from torch import Tensor, nn
from torch.export import Dim
from transformers import AttentionInterface

from groundserve.engines.manifest import ROW_BYTES_KEY
from groundserve.errors import GroundserveError
from groundserve.families.plans import PlanInput
from groundserve.families.vision_inputs import VisionInputs
from groundserve.runtime.quiet import errors_alone

if TYPE_CHECKING:
    from groundserve.families.modules import GroundingModule, VisionModule

OPSET = 20
_DIM_LETTERS = "ghijk"
"""Names in a graph of the dimensions that the plan varies."""
_SIDE_NAMES = ("height", "width")
"""Names in a graph of the sides of frames as decoded."""
_EXAMPLE_SIDES = (36, 52)
_ATTENTION_NAME = "groundserve_onnxruntime"


def export_vision_encoder(model: VisionModule, path: Path, inputs: VisionInputs) -> None:
    """Write the vision stage; dynamic in the units, what the plan varies, and sides as decoded.

    The model, in float32, computes as exported graphs do from here on. Weights of more than 2 GB go
    to `<path>.data`.
    """
    model.prepare_export()
    model.leave_out_unread()
    with _exportable_attention(model):
        export_vision_graph(model, path, inputs)


def export_vision_graph(
    model: nn.Module,
    path: Path,
    inputs: VisionInputs,
    *,
    opset: int = OPSET,
    weights_apart: bool = False,
) -> None:
    """Write the graph of a vision stage as it stands; see `export_graph`."""
    # Two units: the exporter would take one for a constant.
    units = Dim("n", min=1)
    example: list[Tensor] = []
    dynamic_shapes: list[dict[int, Any]] = []
    for stream in inputs.streams:
        # Sides of frames as decoded differ, or the exporter would take them for one.
        sides, names = iter(_EXAMPLE_SIDES), iter(_SIDE_NAMES)
        dims = [next(sides) if dim < 0 else dim for dim in stream.unit_dims]
        example.append(torch.zeros((2, *dims), dtype=torch.uint8))
        of_sides = {
            axis: Dim(next(names), min=1)
            for axis, dim in enumerate(stream.unit_dims, start=1)
            if dim < 0
        }
        dynamic_shapes.append({0: units, **of_sides})
    letters = iter(_DIM_LETTERS)
    for one in inputs.plan_inputs:
        # As small as may be without being a constant, or one: traced and thrown away.
        sizes = [min(3, most) if dim < 0 else dim for dim, most in _dims(one)]
        example.append(torch.zeros((2, *sizes)))
        varying = {
            axis: Dim(next(letters), min=1, max=most)
            for axis, (dim, most) in enumerate(_dims(one), start=1)
            if dim < 0
        }
        dynamic_shapes.append({0: units, **varying})
    export_graph(
        model,
        tuple(example),
        path,
        inputs=list(inputs.names),
        output="FEATURES",
        dynamic_shapes=tuple(dynamic_shapes),
        opset=opset,
        weights_apart=weights_apart,
    )


def export_grounding(model: GroundingModule, path: Path, *, feature_width: int) -> None:
    """Write the grounding stage, in float32; dynamic T, tokens a frame and text length."""
    features = torch.zeros((3, 4, feature_width))
    text_ids = torch.zeros(5, dtype=torch.int64)
    with _exportable_attention(model):
        export_graph(
            model,
            (features, text_ids),
            path,
            inputs=["FEATURES", "TEXT_IDS"],
            output="FRAME_LOGITS",
            dynamic_shapes=({0: Dim("t", min=1), 1: Dim("p", min=1)}, {0: Dim("l", min=1)}),
        )


def export_graph(
    model: nn.Module,
    example: tuple[Tensor, ...],
    path: Path,
    *,
    inputs: list[str],
    output: str,
    dynamic_shapes: tuple[dict[int, Any], ...],
    opset: int = OPSET,
    weights_apart: bool = False,
) -> None:
    """Write one ONNX graph, traced with the example, of which some dimensions may vary.

    `weights_apart` go to `<path>.data`, which may be larger than 2 GiB and is mapped, not read, by
    who opens the graph. GroundserveError where the graph takes the example's sizes alone.
    """
    with warnings.catch_warnings(), errors_alone("torch.onnx"):
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
    _check_dynamic(program.model, dynamic_shapes, path)
    _forget_source(program.model)
    program.model.metadata_props[ROW_BYTES_KEY] = str(_row_bytes(program.model))
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
        return heads.transpose(1, 2).flatten(2)

    def widened(heads: Tensor) -> Tensor:
        # A repeat of 1 would be a copy that the operator's own reordering cannot take back.
        return heads if groups == 1 else heads.repeat_interleave(groups, dim=1)

    attended = torch.onnx.ops.symbolic(
        # ONNX Runtime's own operator, computed block by block on a CPU: no T x T tensor.
        "com.microsoft::MultiHeadAttention",
        # The operator has as many key heads as query heads.
        (packed(query), packed(widened(key)), packed(widened(value))),
        {"num_heads": num_heads, "scale": float(scaling)},
        dtype=query.dtype,
        shape=(batch, length, num_heads * head_size),
        version=1,
    )
    return attended.reshape(batch, length, num_heads, head_size), None


def _forget_source(model: ir.Model) -> None:
    """Drop where on this machine each operator was written: engines differ by that alone."""
    model.graph.metadata_props.clear()
    for node in model.graph:
        node.metadata_props.clear()


def _check_dynamic(model: ir.Model, dynamic_shapes: tuple[dict[int, Any], ...], path: Path) -> None:
    """Refuse a graph that takes one size of what may vary.

    Where a module's code asks for a size as a number, the exporter makes it one, and says nothing.
    """
    for value, axes in zip(model.graph.inputs, dynamic_shapes, strict=True):
        assert value.shape is not None, "the exporter writes the shape of each input"
        fixed = {axis: value.shape[axis] for axis in axes if isinstance(value.shape[axis], int)}
        if fixed:
            raise GroundserveError(
                f"exporting {path.name}: dimensions {sorted(fixed)} of {value.name} must vary, the "
                f"graph takes {value.shape} alone; the module makes numbers of its inputs' sizes"
            )


def _row_bytes(model: ir.Model) -> int:
    """Return the size of the widest tensor for one row of the first input, such as one unit.

    A stage may take apart what a unit has several of, such as frames: a tensor of 8 n rows has 8
    for a unit. Tensors that the plan's inputs make longer are left out: none is wider than the
    layers' own.
    """
    first = model.graph.inputs[0]
    assert first.shape is not None, "the exporter writes the shape of each input"
    units = first.shape[0]
    sizes = [0]
    # The inputs, too, which may be the widest.
    for value in (*model.graph.inputs, *(one for node in model.graph for one in node.outputs)):
        if value.shape is None or value.dtype is None or not len(value.shape):
            continue
        rows = _rows_of_unit(value.shape[0], units)
        lengths = [dim for dim in value.shape[1:] if isinstance(dim, int)]
        if rows and len(lengths) == len(value.shape) - 1:
            sizes.append(rows * math.prod(lengths) * int(value.dtype.itemsize))
    return max(sizes)


def _rows_of_unit(rows: object, units: object) -> int:
    """Return k where there are k n rows, n the units; 0 where the two are not such."""
    if rows == units:
        return 1
    several = re.fullmatch(rf"(\d+)\*{re.escape(str(units))}", str(rows))
    return int(several[1]) if several else 0


def _dims(one: PlanInput) -> zip[tuple[int, int]]:
    return zip(one.dims, one.max_dims, strict=True)


@contextmanager
def _exportable_attention(model: VisionModule | GroundingModule) -> Iterator[None]:
    config = model.config
    if config is None:  # no layer of transformers
        yield
        return
    AttentionInterface.register(_ATTENTION_NAME, _onnxruntime_attention)
    # Set back after the export: the caller goes on with the model in PyTorch.
    previous = config._attn_implementation
    config._attn_implementation = _ATTENTION_NAME
    try:
        yield
    finally:
        config._attn_implementation = previous
