"""AdamW with the references' groups of parameters, and their learning rates."""

from __future__ import annotations

import math

import torch
from torch import nn

from train.config import OptimizerConfig
from train.families.base import TrainedModel

BASE = "base"
"""Group at `learning_rate`."""
FAST = "out_proj"
"""Group at `out_proj_learning_rate`."""
ADAPTER, SPATIAL = "adapter", "spatial"
"""Groups at `adapter_learning_rate` and `spatial_learning_rate`."""


def parameter_groups(model: TrainedModel, config: OptimizerConfig) -> dict[str, list[nn.Parameter]]:
    """Sort the parameters that are trained into `BASE` and those others that have a rate.

    A parameter is in the fast group when its name in the reference's files contains `out_proj`.
    The head is called so, and the projector is too: `model.mm_projector.out_projection`. The
    auxiliary layer, which the reference does not have, goes with the head.

    Source: NVlabs/VideoITG fab8b54,
    `eagle/train/eagle_trainer.py::EagleTrainer.create_optimizer`; there, biases and norms are
    groups of their own, which differ in weight decay only, and it is 0.
    """
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in _peaks(config)}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            group = next((one for one in groups if _is_in(one, name, model, config)), BASE)
            groups[group].append(parameter)
    return groups


def new_optimizer(model: TrainedModel, config: OptimizerConfig) -> torch.optim.AdamW:
    """Return AdamW at the peak rates, which each group also keeps as `initial_lr`."""
    peaks = _peaks(config)
    groups = [
        {"params": some, "lr": peaks[name], "initial_lr": peaks[name], "name": name, **decay}
        for name, parameters in parameter_groups(model, config).items()
        for some, decay in _by_decay(parameters, config)
        if some
    ]
    return torch.optim.AdamW(
        groups,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,  # one pass over memory on CPUs and GPUs, sharded weights included
    )


def rate_factor(
    step: int, config: OptimizerConfig, *, num_steps: int, accumulation_steps: int = 1
) -> float:
    """Return the learning rate of a step, counted from 0, relative to its peak.

    The rate rises linearly from 0, which the first step has, and then falls along half a cosine
    to 0, which it would have one step after the last. Steps of the warm-up are rounded up, or down;
    then the first has the rate 0 even where there is none, as Grounded-VideoLLM's.

    With a `min_learning_rate` it is that of the step's last pass, by the course that VTG-LLM has.

    Source: transformers' `get_cosine_schedule_with_warmup`; gyxxyg/VTG-LLM ce13f3e,
    `vtgllm/common/optims.py::LinearWarmupCosineLRScheduler`.
    """
    peak, start, least = (
        config.learning_rate,
        config.warmup_learning_rate,
        config.min_learning_rate,
    )
    if start is not None and least is not None:
        last_pass, num_passes = (step + 1) * accumulation_steps - 1, num_steps * accumulation_steps
        num_warmup = math.floor(num_passes * config.warmup_ratio)
        if last_pass < num_warmup:
            return (start + (peak - start) * last_pass / num_warmup) / peak
        cosine = 0.5 * (1.0 + math.cos(math.pi * last_pass / num_passes))
        return (least + (peak - least) * cosine) / peak
    rounds_down = config.warmup_rounds_down
    num_warmup = (math.floor if rounds_down else math.ceil)(num_steps * config.warmup_ratio)
    if rounds_down and step == 0:
        return 0.0
    if step < num_warmup:
        return step / num_warmup
    # max: a caller may ask for the step behind a run of warm-up alone.
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> dict[str, float]:
    """Set every group to a share of its peak; returns the rates by the groups' names."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    return {group["name"]: group["lr"] for group in optimizer.param_groups}


def _peaks(config: OptimizerConfig) -> dict[str, float]:
    """Return the peak rate of each group that has one."""
    peaks = {
        BASE: config.learning_rate,
        FAST: config.out_proj_learning_rate,
        ADAPTER: config.adapter_learning_rate,
        SPATIAL: config.spatial_learning_rate,
    }
    return {name: rate for name, rate in peaks.items() if rate is not None}


def _by_decay(
    parameters: list[nn.Parameter], config: OptimizerConfig
) -> list[tuple[list[nn.Parameter], dict[str, float]]]:
    """Part vectors, which do not decay, from the rest; nothing where nothing does."""
    if not config.weight_decay:
        return [(parameters, {})]
    rest = [one for one in parameters if one.ndim > 1]
    return [(rest, {}), ([one for one in parameters if one.ndim < 2], {"weight_decay": 0.0})]


def _is_in(group: str, name: str, model: TrainedModel, config: OptimizerConfig) -> bool:
    if group == FAST:
        return _is_fast(name, model, config)
    return {ADAPTER: ".lora_" in name, SPATIAL: name.startswith("front.spatial.")}.get(group, False)


def _is_fast(name: str, model: TrainedModel, config: OptimizerConfig) -> bool:
    if name.startswith("auxiliary."):
        return True
    theirs = model.file_name(name)
    return FAST in theirs if config.out_proj_matches_projector else theirs.startswith(f"{FAST}.")
