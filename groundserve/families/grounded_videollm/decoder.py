"""The decoder and projectors as the last stage left them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.grounded_videollm.layout import Angles
from groundserve.families.grounded_videollm.plan import Llm
from groundserve.families.llama import no_decoder, read_decoder_config
from groundserve.families.rotary import RotaryTables
from groundserve.strict_json import shown
from groundserve.weights.lora import Adapter, split_state_dict
from groundserve.weights.torch_archive import read_torch_file

# Each by what model_type may be: a folder may have kept the config of the whole model.
_KINDS: Mapping[Llm, tuple[tuple[str, ...], Any, Any]] = {
    "phi3.5": (("phi3", "phi3_v"), Phi3Config, Phi3ForCausalLM),
    "llama3": (("llama",), LlamaConfig, LlamaForCausalLM),
}
_WHERE = "the part base"
_ANGLES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def decoder_config(raw: Mapping[str, Any], llm: Llm, *, vocab_size: int) -> Any:
    """Read the config.json of the decoder before its tables grew to `vocab_size` rows."""
    model_types, config_type, _ = _KINDS[llm]
    if raw.get("model_type") not in model_types:
        raise UnsupportedError(
            f"{_WHERE}: model_type must be {model_types[0]}, as {llm} has, "
            f"got {shown(raw.get('model_type'))}"
        )
    grown = {"vocab_size": vocab_size, "tie_word_embeddings": False}
    config = read_decoder_config(raw, config_type, where=_WHERE, name=llm, **grown)
    window = getattr(config, "sliding_window", None)
    is_window = isinstance(window, int) and window >= config.max_position_embeddings
    if window is not None and not is_window:
        raise UnsupportedError(
            f"{_WHERE}: sliding_window must be no smaller than max_position_embeddings, "
            f"{config.max_position_embeddings}, got {shown(window)}"
        )
    if window is not None:  # which nothing reaches
        config.sliding_window = None
    return config


def empty_decoder(config: Any, llm: Llm, *, angles: Angles, head_bias: bool = True) -> Any:
    """Return a causal model of transformers on the meta device, its head with a bias or not yet."""
    try:
        tables = RotaryTables.of(config, angles=_ANGLES[angles])
        with torch.device("meta"):
            model = _KINDS[llm][2](config)
            model.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=head_bias)
    except (RuntimeError, ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        raise no_decoder(_WHERE, llm, error) from error
    model.model.rotary_emb = tables
    return model


_RANK, _ALPHA = 128, 256
"""Rank and alpha of the reference's adapter, which its file does not say."""

_EMBEDDINGS = "model.embed_tokens.weight"
_DECODER = "language_model."
_PEFT_PREFIX = "base_model.model."
# The reference's name of a module -> that of the vision stage.
_PROJECTORS: Mapping[Llm, Mapping[str, str]] = {
    "phi3.5": {
        "multi_modal_projector.linear_0.": "spatial.projector.first.",
        "multi_modal_projector.linear_1.": "spatial.projector.second.",
    },
    "llama3": {
        "multi_modal_projector.linear_1.": "spatial.projector.first.",
        "multi_modal_projector.linear_2.": "spatial.projector.second.",
    },
}
_TEMPORAL = {
    "video_projecter.up_proj.": "temporal_projector.first.",
    "video_projecter.down_proj.": "temporal_projector.second.",
}
_NEWLINES: Mapping[Llm, Mapping[str, str]] = {
    "phi3.5": {"sub_GN": "spatial.row_separator", "glb_GN": "spatial.terminator"},
    "llama3": {"image_newline": "spatial.terminator"},
}


@dataclass(frozen=True, kw_only=True, eq=False)
class TunedState:
    """The file of the last stage; its tensors are mapped into memory."""

    where: str
    """The part as an error names it."""
    decoder: Mapping[str, Tensor]
    """By transformers' names, before the adapter."""
    adapter: Adapter
    others: Mapping[str, Tensor]
    """All that is not the decoder's, by the reference's names."""

    @classmethod
    def open(cls, path: Path) -> TunedState:
        """Read a file `sft_*.pth`."""
        where = f"the part checkpoint {path.name}"
        found = read_torch_file(path, inside="model")
        language = {
            name.removeprefix(_DECODER): tensor
            for name, tensor in found.items()
            if name.startswith(_DECODER)
        }
        if f"{_PEFT_PREFIX}{_EMBEDDINGS}" not in language:
            raise InvalidRequestError(
                f"{where}: it has no {_DECODER}{_PEFT_PREFIX}{_EMBEDDINGS}; give the file of the "
                "last stage, which has the decoder"
            )
        decoder, adapter = split_state_dict(
            language, name=path.name, prefix=_PEFT_PREFIX, rank=_RANK, alpha=_ALPHA
        )
        if decoder[_EMBEDDINGS].ndim != 2:
            raise InvalidRequestError(
                f"{where}: {_EMBEDDINGS} must have two dimensions, got "
                f"{tuple(decoder[_EMBEDDINGS].shape)}; download it again"
            )
        return cls(
            where=where,
            decoder=decoder,
            adapter=adapter,
            others={name: one for name, one in found.items() if not name.startswith(_DECODER)},
        )

    @property
    def whole_decoder(self) -> dict[str, Tensor]:
        """The decoder's tensors and the adapter's, these as X.lora_A.weight."""
        found = dict(self.decoder)
        for name, (a, b) in self.adapter.pairs.items():
            layer = name.removesuffix(".weight")
            found |= {f"{layer}.lora_A.weight": a, f"{layer}.lora_B.weight": b}
        return found

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding table, grown by the tokens for times."""
        return int(self.decoder[_EMBEDDINGS].shape[0])

    def projectors(self, llm: Llm) -> dict[str, Tensor]:
        """Return both projectors by the names of the vision stage."""
        return rename_projectors(self.others, llm, where=self.where)


def rename_projectors(tensors: Mapping[str, Tensor], llm: Llm, *, where: str) -> dict[str, Tensor]:
    """Return tensors of projectors by the names of the vision stage."""
    names = projector_names(llm)
    renamed = {}
    for name, tensor in tensors.items():
        layer, dot, kind = name.rpartition(".")
        if layer + dot not in names:
            raise InvalidRequestError(
                f"{where}: {name[:120]} is of neither projector nor of the decoder"
            )
        renamed[names[layer + dot] + kind] = tensor
    return renamed


def projector_names(llm: Llm) -> dict[str, str]:
    """Return what each layer of both projectors is called in files -> in the vision stage."""
    return {**_PROJECTORS[llm], **_TEMPORAL}


def read_newlines(path: Path, llm: Llm) -> dict[str, Tensor]:
    """Read the vectors between rows and segments, by the names of the vision stage."""
    found, names = read_torch_file(path), _NEWLINES[llm]
    if found.keys() != names.keys():
        raise UnsupportedError(
            f"the part base: {path.name} must hold {' and '.join(sorted(names))}, as that of {llm} "
            f"does, got {', '.join(sorted(found))[:120] or 'nothing'}"
        )
    return {names[name]: tensor.flatten() for name, tensor in found.items()}
