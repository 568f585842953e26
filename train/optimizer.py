"""AdamW with the reference's two groups of parameters."""

from __future__ import annotations

import torch
from torch import nn

from train.config import OptimizerConfig
from train.families.base import TrainedModel

BASE = "base"
"""Group at `learning_rate`."""
FAST = "out_proj"
"""Group at `out_proj_learning_rate`."""


def parameter_groups(model: TrainedModel, config: OptimizerConfig) -> dict[str, list[nn.Parameter]]:
    """Sort the parameters that are trained into groups of one learning rate.

    A parameter is in the fast group when its name in the reference's files contains `out_proj`.
    The head is called so, and the projector is too: `model.mm_projector.out_projection`. The
    auxiliary layer, which the reference does not have, goes with the head.

    Returns:
        `BASE` and, where the config sets a rate for it, `FAST`; a group may be empty.

    Source: NVlabs/VideoITG fab8b54,
    `eagle/train/eagle_trainer.py::EagleTrainer.create_optimizer`; there, biases and norms are
    groups of their own, which differ in weight decay only, and it is 0.
    """
    groups: dict[str, list[nn.Parameter]] = {BASE: []}
    if config.out_proj_learning_rate is not None:
        groups[FAST] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            fast = FAST in groups and _is_fast(name, model, config)
            groups[FAST if fast else BASE].append(parameter)
    return groups


def new_optimizer(model: TrainedModel, config: OptimizerConfig) -> torch.optim.AdamW:
    """Return AdamW at the peak rates, which each group also keeps as `initial_lr`."""
    peaks = {BASE: config.learning_rate, FAST: config.out_proj_learning_rate}
    groups = [
        # `initial_lr` is the key that PyTorch's schedulers use.
        {"params": parameters, "lr": peaks[name], "initial_lr": peaks[name], "name": name}
        for name, parameters in parameter_groups(model, config).items()
        if parameters
    ]
    return torch.optim.AdamW(
        groups,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,  # one pass over memory on CPUs and GPUs, sharded weights included
    )


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> dict[str, float]:
    """Set every group to a share of its peak; returns the rates by the groups' names."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    return {group["name"]: group["lr"] for group in optimizer.param_groups}


def _is_fast(name: str, model: TrainedModel, config: OptimizerConfig) -> bool:
    if name.startswith("auxiliary."):
        return True
    theirs = model.file_name(name)
    return (
        "out_proj" in theirs if config.out_proj_matches_projector else theirs.startswith(FAST + ".")
    )
