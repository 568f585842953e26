"""LoRA adapters of a small decoder: trained one upon the other, and written as PEFT writes them.

Shape letters: r rank, i and o width of a layer's input and output.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaForCausalLM

RANK, ALPHA = 64, 128
"""As published."""
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""As published: all layers of the decoder but the last one, which tells tokens."""
_PREFIX = "base_model.model."


class AdaptedLinear(nn.Module):
    """A frozen layer with an adapter.

    The sum of both is multiplied, and not each: a batch has many more positions than a rank.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.lora_A = nn.Parameter(torch.empty(RANK, layer.in_features))
        self.lora_B = nn.Parameter(torch.zeros(layer.out_features, RANK))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    @property
    def weight(self) -> Tensor:
        """Base and adapter, (o, i)."""
        return self.layer.weight + ALPHA / RANK * (self.lora_B @ self.lora_A)

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply it, (*, i) -> (*, o)."""
        return F.linear(inputs, self.weight)


def add_adapter(model: LlamaForCausalLM) -> list[nn.Parameter]:
    """Freeze the model, put an adapter on each target, and return what is to be trained."""
    model.requires_grad_(False)
    for layer in model.model.layers:
        for part in (layer.self_attn, layer.mlp):
            for name in TARGETS:
                if hasattr(part, name):
                    setattr(part, name, AdaptedLinear(getattr(part, name)))
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def take_adapter(model: LlamaForCausalLM) -> dict[str, Tensor]:
    """Merge the adapter into the layers below it, as the next stage does; return its tensors.

    They are rounded to bfloat16, in which the reference trains, before they are merged.
    """
    tensors: dict[str, Tensor] = {}
    for parent_name, parent in list(model.named_modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, AdaptedLinear):
                for side in (child.lora_A, child.lora_B):
                    side.data = side.data.bfloat16().float()
                where = f"{_PREFIX}{parent_name}.{name}"
                tensors[f"{where}.lora_A.weight"] = child.lora_A.detach().bfloat16()
                tensors[f"{where}.lora_B.weight"] = child.lora_B.detach().bfloat16()
                child.layer.weight.data = child.weight.detach()
                setattr(parent, name, child.layer)
    return tensors


def write_adapter(tensors: Mapping[str, Tensor], directory: Path, *, base: str) -> None:
    """Write an adapter that PEFT and serving read."""
    directory.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": RANK,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "modules_to_save": None,
        "target_modules": list(TARGETS),
    }
    (directory / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    torch.save(dict(tensors), directory / "adapter_model.bin")
