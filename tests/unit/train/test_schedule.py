"""The learning rate's course."""

import math

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from train.config import OptimizerConfig
from train.optimizer import rate_factor


@pytest.mark.parametrize(("num_steps", "warmup_ratio"), [(37, 0.05), (40, 0.03), (7, 0.9)])
def test_rate_factor_is_that_of_transformers(num_steps, warmup_ratio):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=1.0)
    schedule = get_cosine_schedule_with_warmup(
        optimizer, math.ceil(num_steps * warmup_ratio), num_steps
    )
    config = OptimizerConfig(learning_rate=1.0, warmup_ratio=warmup_ratio)
    for step in range(num_steps):
        factor = rate_factor(step, config, num_steps=num_steps)
        assert factor == pytest.approx(schedule.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        schedule.step()
