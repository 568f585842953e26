"""Write a causal decoder as a directory that vLLM loads with our `python_backend.vllm_decoder`.

All decoders become one kind: Llama's layers, positions rotated by a table that the checkpoint
brings, a head with or without a bias.

Shape letters: H decoder width, d head size, C positions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from groundserve.engines.manifest import PROMPT_LIMIT_KEY
from groundserve.errors import UnsupportedError
from groundserve.families.rotary import RotaryTables

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ARCHITECTURES = ("LlamaForCausalLM", "Phi3ForCausalLM")
_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256)
"""What vLLM's attention takes, on a CPU and on a GPU."""
_COPIED = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "rms_norm_eps", "hidden_act", "vocab_size"),
)


def export_for_vllm(model: PreTrainedModel, directory: Path) -> None:
    """Write config.json and model.safetensors, in the model's dtype, to a new directory."""
    _check(model)
    config = model.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    padded = next((one for one in _HEAD_SIZES if one >= size), None)
    if padded is None:
        raise UnsupportedError(f"vLLM takes heads of at most {_HEAD_SIZES[-1]}, got {size}")
    cos, sin, max_prompt = _rotation(model)
    tensors = {name: tensor.contiguous() for name, tensor in _tensors(model, size, padded)}
    # What is padded is not rotated.
    rotation = [_pad(cos, size // 2, padded // 2, value=1), _pad(sin, size // 2, padded // 2)]
    tensors["rotation"] = torch.cat(rotation, -1)
    directory.mkdir()
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "model.safetensors").chmod(0o644)  # which other users may serve, too
    said: dict[str, Any] = {
        "architectures": ["GroundserveDecoder"],
        "model_type": "llama",
        **{name: getattr(config, name) for name in _COPIED},
        "head_dim": padded,
        "max_position_embeddings": len(cos),
        "tie_word_embeddings": False,
        "dtype": str(model.dtype).removeprefix("torch."),
        "head_bias": model.lm_head.bias is not None,
        PROMPT_LIMIT_KEY: max_prompt,
    }
    (directory / "config.json").write_text(json.dumps(said, indent=2) + "\n", "utf-8")


def _check(model: PreTrainedModel) -> None:
    name, config = type(model).__name__, model.config
    if name not in _ARCHITECTURES:
        raise UnsupportedError(
            f"decoders that vLLM runs: {', '.join(_ARCHITECTURES)}, got {name}; use profile torch"
        )
    for part in ("attention_bias", "mlp_bias"):
        if getattr(config, part, False):
            raise UnsupportedError(f"decoders that vLLM runs have no {part}; use profile torch")
    if config.hidden_act != "silu":
        raise UnsupportedError(
            f"decoders that vLLM runs have hidden_act silu, got {config.hidden_act}; use profile "
            "torch"
        )
    window = getattr(config, "sliding_window", None)
    if window is not None and window < config.max_position_embeddings:
        raise UnsupportedError(
            f"decoders that vLLM runs attend to all {config.max_position_embeddings} positions, "
            f"got a window of {window}; use profile torch"
        )


def _rotation(model: PreTrainedModel) -> tuple[Tensor, Tensor, int | None]:
    """Return float32 (C, d/2), cos and sin of each position, and how long prompts may be.

    vLLM looks a position up, whatever sequence it is of. Where those of a long sequence are rotated
    otherwise from the first on, prompts must be short ones: else None. An answer that grows past
    the switch goes on in the second regime, and what was computed stays: see `Decoder` in
    `python_backend.generate.base`.
    """
    rotary, config = model.model.rotary_emb, model.config
    num_positions: int = config.max_position_embeddings
    if isinstance(rotary, RotaryTables):
        cos, sin = rotary.tables()
        if (switch := rotary.switch) is None:
            return cos, sin, None
        # Past it, room for an answer as long as the longest prompt: vLLM sets memory aside for all.
        end = min(num_positions, 2 * switch)
        # `tables` has the second regime's behind `switch` rows of the first.
        cos, sin = (torch.cat((one[:switch], one[2 * switch : switch + end])) for one in (cos, sin))
        return cos, sin, switch
    if (kind := config.rope_parameters["rope_type"]) not in ("default", "linear", "llama3"):
        raise UnsupportedError(
            f"decoders that vLLM runs rotate each position alike whatever follows, got rope_type "
            f"{kind}; use profile torch"
        )
    with torch.inference_mode():
        positions = torch.arange(num_positions, device=model.device)[None]
        both = rotary(torch.zeros(1, device=model.device), positions)  # (1, C, d), halves alike
    cos, sin = (one[0].chunk(2, -1)[0].cpu() for one in both)
    return cos, sin, None


def _tensors(model: PreTrainedModel, size: int, padded: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors by Llama's names, heads padded with zeros, which change no product."""
    config = model.config
    heads = {"q": config.num_attention_heads, "k": config.num_key_value_heads}
    heads["v"] = heads["k"]
    # vLLM divides by the root of the padded size.
    scale = math.sqrt(padded / size)
    for name, tensor in model.state_dict().items():
        place, _, kind = name.removesuffix(".weight").rpartition(".")
        if kind == "qkv_proj":
            parts = tensor.split([number * size for number in heads.values()])
            split = dict(zip(("q_proj", "k_proj", "v_proj"), parts, strict=True))
        elif kind == "gate_up_proj":
            split = dict(zip(("gate_proj", "up_proj"), tensor.chunk(2), strict=True))
        else:
            split = {kind: tensor}
        for part, one in split.items():
            if part in ("q_proj", "k_proj", "v_proj"):
                rows = _pad_heads(one, heads[part[0]], size, padded)
                one = rows * scale if part == "q_proj" and padded != size else rows
            elif part == "o_proj":
                one = _pad_heads(one.T, heads["q"], size, padded).T
            yield name if split.keys() == {kind} else f"{place}.{part}.weight", one


def _pad_heads(rows: Tensor, num_heads: int, size: int, padded: int) -> Tensor:
    """Pad (heads * d, H), each half of a head by itself, for one is rotated with the other."""
    if padded == size:
        return rows
    halves = rows.reshape(2 * num_heads, size // 2, -1)
    # (2 heads, H, d/2), padded at its end
    wide = _pad(halves.transpose(1, 2), size // 2, padded // 2).transpose(1, 2)
    return wide.reshape(num_heads * padded, -1)


def _pad(tensor: Tensor, size: int, padded: int, *, value: float = 0) -> Tensor:
    return torch.nn.functional.pad(tensor, (0, padded - size), value=value)
