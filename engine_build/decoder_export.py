"""Export what stands behind FEATURES of a family that answers in text.

`front.onnx`: FEATURES float32 (U,P,D) and the family's inputs -> VISUAL_EMBEDS float32 (N,H).
`token_embeddings.npy`: float32 (V,H).
`decoder/model.onnx`: a causal decoder from embeddings, with past and present.
"""

from __future__ import annotations

import copy
import io
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from onnxscript import ir
from torch import nn
from torch.export import Dim

from engine_build.onnx_export import export_graph
from groundserve import extras
from groundserve.engines.manifest import DECODER_GRAPH_NAME, ROTARY_SWITCH_KEY
from groundserve.engines.profiles import Precision
from groundserve.errors import UnsupportedError
from groundserve.families.plans import PlanInput
from groundserve.families.rotary import RotaryTables

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from groundserve.families.modules import FrontModule

_BUILDERS = {"LlamaForCausalLM": "LlamaModel", "Phi3ForCausalLM": "Phi3MiniModel"}
"""Class of transformers -> the builder of onnxruntime-genai that was tried with it. Those of Phi-3
differ in their tables of cos and sin, which come from the model."""
_OPTIONS = {
    # A video's block stands among the embeddings, so they come from outside.
    "exclude_embeds": True,
    # Logits of the last position alone: those of all would be the largest tensor there is.
    "prune_lm_head": True,
}
_ATTENTION, _POSITIONS_PLACE = "GroupQueryAttention", 9
"""Operator, and which of its inputs are places in its tables of cos and sin."""
_OPEN_HEAD_SIZE = "kv_cache_dim"
"""What the builder writes for the size of a head in the shapes of the past."""


def export_front(
    module: FrontModule, path: Path, *, feature_width: int, inputs: Sequence[PlanInput] = ()
) -> None:
    """Write `front.onnx`, for any number of units and of tokens of one.

    The module is in float32; inputs are the family's `front_inputs`.
    """
    # Sizes that are neither 0 nor 1, which the exporter would take for constants.
    shapes = [(3, 4, feature_width), *(tuple(_example(one)) for one in inputs)]
    varying: list[dict[int, Any]] = [{0: Dim("u", min=1), 1: Dim("p", min=1)}]
    for number, one in enumerate(inputs):
        varying.append(
            {
                axis: Dim(f"d{number}_{axis}", min=1, max=most)
                for axis, (dim, most) in enumerate(zip(one.dims, one.max_dims, strict=True))
                if dim < 0
            }
        )
    export_graph(
        module,
        tuple(torch.zeros(shape) for shape in shapes),
        path,
        inputs=["FEATURES", *(one.name for one in inputs)],
        output="VISUAL_EMBEDS",
        dynamic_shapes=tuple(varying),
    )


def write_token_embeddings(embeddings: nn.Embedding, path: Path) -> None:
    """Write `token_embeddings.npy`, which `OnnxRuntimeFront` maps."""
    np.save(path, embeddings.weight.detach().to("cpu", torch.float32).numpy())


def export_decoder(
    model: PreTrainedModel, directory: Path, *, precision: Precision, own_positions: bool = False
) -> None:
    """Write `model.onnx`, which `OnnxRuntimeDecoder` runs, its weights in `model.onnx.data`.

    Args:
        model: A causal decoder of transformers in float32.
        directory: Is made.
        precision: "fp32"; "int4": the weights of linear layers in 4 bits, 32 of an output channel
            with one scale, and what they are multiplied with in 8 bits; the rest in float32.
        own_positions: Whether the graph is told where each position is, on one axis. Attention that
            rotates by itself, as in other graphs, counts on from a pass's first.
    """
    name = type(model).__name__
    _check_is_exported(name, model.config)
    config = copy.deepcopy(model.config)
    found = model.model.rotary_emb
    rotary = found if isinstance(found, RotaryTables) else None
    tables = None if rotary is None else rotary.tables()
    # With linear scaling the builder's own tables give other logits; no other were tried.
    rope_type = config.rope_parameters["rope_type"]
    if rotary is None and rope_type != "default":
        raise UnsupportedError(
            f"decoders that are exported have rope_type default, got {rope_type}; use profile torch"
        )
    builders = _import_builders()
    types = {"fp32": ir.DataType.FLOAT, "int4": ir.DataType.INT4}

    class Builder(getattr(builders, _BUILDERS[name])):  # type: ignore[misc]  # has no types
        def load_weights(self, _: str) -> PreTrainedModel:
            return model

        def is_fused_rope_supported(self) -> bool:
            return not own_positions and bool(super().is_fused_rope_supported())

        def make_rotary_embedding_caches_from_scratch(self) -> tuple[torch.Tensor, torch.Tensor]:
            # (rows, d/2) each, or (rows, d), of which the builder takes the first half.
            return tables or super().make_rotary_embedding_caches_from_scratch()

    config.architectures = [name]  # None where no file was read
    config.sliding_window = None
    config.rope_parameters = {
        "rope_type": "default",
        "rope_theta": config.rope_parameters["rope_theta"],
    }
    with TemporaryDirectory(prefix="groundserve-") as scratch, redirect_stdout(io.StringIO()):
        options = {**_OPTIONS, "fuse_qkv": not own_positions}  # rotated apart, they come apart
        builder = Builder(config, types["fp32"], types[precision], "cpu", scratch, options)
        builder.make_model("")
        graph: ir.Model = builder.to_nbits() if precision == "int4" else builder.model
    if rotary is not None and rotary.switch is not None:
        graph.metadata_props[ROTARY_SWITCH_KEY] = str(rotary.switch)
        if not own_positions:
            _take_positions(graph)
    for value in (*graph.graph.inputs, *graph.graph.outputs):
        # The builder leaves the size of a head open, which who sets memory aside asks for.
        if value.shape is not None and str(value.shape[-1]) == _OPEN_HEAD_SIZE:
            value.shape = ir.Shape([*value.shape[:-1], builder.head_size])
    graph.graph.sort()
    directory.mkdir()
    ir.save(
        graph,
        directory / DECODER_GRAPH_NAME,
        external_data=f"{DECODER_GRAPH_NAME}.data",
        size_threshold_bytes=0,
    )


def _check_is_exported(name: str, config: PreTrainedConfig) -> None:
    if name not in _BUILDERS:
        raise UnsupportedError(
            f"decoders that are exported: {', '.join(_BUILDERS)}, got {name}; use profile torch"
        )
    window = getattr(config, "sliding_window", None)
    if window is not None and window < config.max_position_embeddings:
        raise UnsupportedError(
            f"decoders that are exported attend to all {config.max_position_embeddings} positions, "
            f"got a window of {window}; use profile torch"
        )


def _take_positions(model: ir.Model) -> None:
    """Have a graph told where in its tables the new positions are, instead of counting them."""
    positions = ir.val(
        "position_ids", dtype=ir.DataType.INT64, shape=("batch_size", "sequence_length")
    )
    model.graph.inputs.append(positions)
    for node in model.graph:
        if node.op_type == _ATTENTION:
            node.replace_input_with(_POSITIONS_PLACE, positions)


def _example(one: PlanInput) -> Iterator[int]:
    """Yield sizes of an input, as small as may be without being a constant."""
    for dim, most in zip(one.dims, one.max_dims, strict=True):
        yield min(3, most) if dim < 0 else dim


def _import_builders() -> ModuleType:
    """Import the builders, which find each other by plain names."""
    with _contained():
        extras.load("onnxruntime_genai.models", "build")  # makes the names known
        return extras.load("builders", "build")


@contextmanager
def _contained() -> Iterator[None]:
    """Undo what an import of them does to a process: to its path, and to its log's settings."""
    root = logging.getLogger()
    path, handlers, level = sys.path[:], root.handlers[:], root.level
    try:
        yield
    finally:
        sys.path[:], root.handlers[:] = path, handlers
        root.setLevel(level)
