"""The losses against values computed by hand; at logit 0 every term is ln 2."""

import math

import pytest
import torch

from train.families.language import language_loss
from train.families.videoitg.models import frame_loss, grounding_loss

LN_2 = math.log(2)


@pytest.mark.parametrize(
    ("num_positive", "num_negative", "expected"),
    [
        pytest.param(1, 4, (2 * 1 + 4) / 5 * LN_2, id="weight_is_sqrt_4"),
        pytest.param(4, 9, (1.5 * 4 + 9) / 13 * LN_2, id="weight_is_sqrt_9_over_4"),
        pytest.param(9, 4, (2 / 3 * 9 + 4) / 13 * LN_2, id="weight_may_be_below_1"),
        pytest.param(1, 25, (5 * 1 + 25) / 26 * LN_2, id="weight_reaches_5"),
        pytest.param(1, 99, (5 * 1 + 99) / 100 * LN_2, id="weight_stops_at_5"),
        pytest.param(3, 0, 0.0, id="all_relevant_teaches_nothing"),
        pytest.param(0, 7, LN_2, id="none_relevant_still_teaches"),
    ],
)
def test_grounding_loss(num_positive, num_negative, expected):
    labels = torch.tensor([1.0] * num_positive + [0.0] * num_negative)
    assert grounding_loss(torch.zeros(len(labels)), labels).item() == pytest.approx(expected)


def test_grounding_loss_of_relevant_and_other_frames():
    # P = 1, M = 4, weight 2; softplus(-1) for the relevant frame, softplus(-2) for the others.
    logits = torch.tensor([1.0, -2.0, -2.0, -2.0, -2.0])
    labels = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0])
    expected = (2 * math.log1p(math.exp(-1)) + 4 * math.log1p(math.exp(-2))) / 5
    assert grounding_loss(logits, labels).item() == pytest.approx(expected)


def test_language_loss_without_positions_is_0_with_a_gradient():
    logits = torch.zeros(0, 5, requires_grad=True)
    loss = language_loss(logits, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None


def test_frame_loss_is_the_mean_over_frames_and_targets():
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
    targets = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    expected = (3 * LN_2 + math.log(4 / 3)) / 4
    assert frame_loss(logits, targets).item() == pytest.approx(expected)
