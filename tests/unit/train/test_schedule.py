"""The learning rate's course."""

import math

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from train.schedule import rate_factor

HALF = math.sqrt(0.5)


@pytest.mark.parametrize(
    ("num_steps", "warmup_ratio", "expected"),
    [
        # Two steps of warm-up, then cos^2 of 0, 1/8, 2/8, 3/8 of half a turn.
        pytest.param(
            6, 0.2, [0, 0.5, 1, (1 + HALF) / 2, 0.5, (1 - HALF) / 2], id="warm_up_is_rounded_up"
        ),
        pytest.param(4, 0.0, [1, (1 + HALF) / 2, 0.5, (1 - HALF) / 2], id="no_warm_up"),
        pytest.param(1, 0.05, [0], id="one_step"),
        pytest.param(2, 0.5, [0, 1], id="half_is_warm_up"),
    ],
)
def test_rate_factor(num_steps, warmup_ratio, expected):
    found = [
        rate_factor(step, num_steps=num_steps, warmup_ratio=warmup_ratio)
        for step in range(num_steps)
    ]
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("num_steps", "warmup_ratio"), [(37, 0.05), (40, 0.03), (7, 0.9)])
def test_rate_factor_is_that_of_transformers(num_steps, warmup_ratio):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=1.0)
    schedule = get_cosine_schedule_with_warmup(
        optimizer, math.ceil(num_steps * warmup_ratio), num_steps
    )
    for step in range(num_steps):
        factor = rate_factor(step, num_steps=num_steps, warmup_ratio=warmup_ratio)
        assert factor == pytest.approx(schedule.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        schedule.step()
