"""Export what stands behind FEATURES of a family that answers in text.

`front.onnx`: FEATURES float32 (U,P,D) and the family's inputs -> VISUAL_EMBEDS float32 (N,H).
`token_embeddings.npy`: float32 (V,H).
`decoder/model.onnx`: a causal decoder from embeddings, with past and present.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from groundserve.families.base import PlanInput
from groundserve.profiles import Precision

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from groundserve.families.modules import FrontModule


def export_front(
    module: FrontModule, path: Path, *, feature_width: int, inputs: Sequence[PlanInput] = ()
) -> None:
    """Write `front.onnx`, for any number of units and of tokens of one.

    Args:
        module: In float32.
        path: File to write.
        feature_width: D.
        inputs: Of the family's `front_inputs`.
    """
    raise NotImplementedError


def write_token_embeddings(embeddings: nn.Embedding, path: Path) -> None:
    """Write `token_embeddings.npy`, which `OnnxRuntimeFront` maps.

    Args:
        embeddings: The decoder's `get_input_embeddings()`.
        path: File to write.
    """
    raise NotImplementedError


def export_decoder(model: PreTrainedModel, directory: Path, *, precision: Precision) -> None:
    """Write `model.onnx`, which `OnnxRuntimeDecoder` runs, its weights in `model.onnx.data`.

    Args:
        model: A causal decoder of transformers in float32.
        directory: Is made.
        precision: "fp32"; "int4": the weights of linear layers in 4 bits, 32 of a row with one
            scale, the rest in float32.

    Raises:
        UnsupportedError: The decoder is of an architecture that is not exported.
        MissingExtraError: onnxruntime-genai, whose builder writes the graph, is not installed.
    """
    raise NotImplementedError
