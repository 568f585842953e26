"""What the PyTorch stages need on a GPU: attention in fused kernels, never a T x T tensor.

Shape letters: B batch, H query heads, H_kv key and value heads, S tokens, d head size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface

from python_backend.interruption import look_before

FUSED_ATTENTION = "groundserve_fused"
"""Name under which models' configs ask for `_fused_attention`."""

KernelOrder = Literal["flash", "cudnn"]
"""Which fused kernel is tried first; the others follow where it does not take the inputs."""

KERNEL_ORDER: KernelOrder = "flash"
"""cuDNN's kernel is said to be the faster one on Hopper, but builds a plan for each new number of
tokens, that is for many a new question. `python -m benchmarks.gpu_check` measures both."""

COMPILE_LAYERS = False
"""Whether layers go through `torch.compile`, which fuses norms, activations and residuals but takes
its time at the first requests. `python -m benchmarks.gpu_check` measures both."""

# The plain kernel is in none of them: it materialises (H, S, S) scores, so where no fused kernel
# takes the inputs (GPUs before Turing), the call fails instead of running out of memory.
_KERNELS: dict[KernelOrder, list[Any]] = {
    "flash": [
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.CUDNN_ATTENTION,
        SDPBackend.EFFICIENT_ATTENTION,
    ],
    "cudnn": [
        SDPBackend.CUDNN_ATTENTION,
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.EFFICIENT_ATTENTION,
    ],
}


def place(
    model: nn.Module,
    config: Any,
    layers: Iterable[nn.Module],
    *,
    device: str,
    in_turn: bool = False,
) -> None:
    """Move a model to a device, in its dtype; on a GPU its layers get fused attention.

    `config` is the transformers config from which the layers read their attention; None where they
    have none. `in_turn` has each layer's weights on the device only while it runs, for a model that
    has no room there as a whole.
    """
    layers = list(layers)
    if in_turn:
        _move_around(model, layers, device=device)
    else:
        model.to(device)
    if torch.device(device).type == "cpu":
        look_before(layers)
    else:
        if config is not None:
            use_fused_attention(config)
        if COMPILE_LAYERS:
            compile_layers(layers)


def _move_around(model: nn.Module, layers: Iterable[nn.Module], *, device: str) -> None:
    """Move all but the layers; let each layer fetch its weights when it begins."""
    travelling: set[int] = set()
    for layer in layers:
        # Tensors hash by identity, so tied weights are one entry.
        home = {tensor: tensor.data for tensor in (*layer.parameters(), *layer.buffers())}
        travelling |= {id(tensor) for tensor in home}

        # `home` as a default: a closure would see that of the last layer only.
        def fetch(*_: Any, home: dict[Tensor, Tensor] = home) -> None:
            for tensor, data in home.items():
                tensor.data = data.to(device)

        def leave(*_: Any, home: dict[Tensor, Tensor] = home) -> None:
            for tensor, data in home.items():
                tensor.data = data

        layer.register_forward_pre_hook(fetch)
        layer.register_forward_hook(leave)
    for tensor in (*model.parameters(), *model.buffers()):
        if id(tensor) not in travelling:
            tensor.data = tensor.data.to(device)


def use_fused_attention(config: Any) -> None:
    """Make every layer that reads this transformers config call `_fused_attention`."""
    # Registering a name again replaces it, so this may run once a model.
    AttentionInterface.register(FUSED_ATTENTION, _fused_attention)
    # Layers look the name up at each call, so it also holds for those that exist already.
    config._attn_implementation = FUSED_ATTENTION


def compile_layers(layers: Iterable[nn.Module]) -> None:
    """Compile each layer by itself, for any number of tokens; equal layers share one result."""
    for layer in layers:
        layer.compile(dynamic=True)


@contextmanager
def fused_kernels() -> Iterator[None]:
    """Let `scaled_dot_product_attention` choose among fused kernels only, by `KERNEL_ORDER`."""
    # Without set_priority the list only says what is allowed, and PyTorch chooses its own order.
    with sdpa_kernel(_KERNELS[KERNEL_ORDER], set_priority=True):
        yield


def _fused_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """Full attention: (B, H, S, d) with keys and values (B, H_kv, S, d) -> (B, S, H, d)."""
    assert attention_mask is None, "attention is full; a mask would hide tokens"
    # Not from the shapes: compiled for any of them, they are symbols.
    groups = int(getattr(module, "num_key_value_groups", 1))
    if groups > 1 and query.dtype == torch.float32:
        # The only fused kernel of 32 bits takes as many key heads as query heads.
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
        groups = 1
    attended = F.scaled_dot_product_attention(
        query, key, value, scale=scaling, enable_gqa=groups > 1
    )
    # (B, S, H, d) is what transformers' layers expect; None: attention weights, which no fused
    # kernel gives.
    return attended.transpose(1, 2), None
