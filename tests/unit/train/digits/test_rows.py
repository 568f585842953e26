"""What stands for a video in training: all rows of it, or some that stand for all."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from train.digits.answers.training import Decoder, Rows, Tokens, turn_loss

WIDTH, NUM_FRAMES, COPIES = 16, 5, 4


def decoder(num_layers):
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=num_layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        initializer_range=0.5,
        attn_implementation="eager",
    )
    model = LlamaForCausalLM(config).double().requires_grad_(False)
    return Decoder(model.model, model.lm_head)


def loss_of(model, rows, *, behind=None):
    turns = [
        Tokens.of(video, torch.tensor(given), torch.tensor([4, 7, 2]), None)
        for video, given in ((0, [5, 6]), (1, [9, 3, 8]))
    ]
    found, _, _ = turn_loss(model, torch.tensor([1, 11]), rows, turns, behind=behind)
    return found


@pytest.fixture
def vectors():
    torch.manual_seed(4)
    return torch.randn(2, NUM_FRAMES, WIDTH, dtype=torch.float64)


@pytest.mark.parametrize("behind", [None, torch.tensor([12, 13, 14])])
def test_rows_that_stand_for_themselves_are_as_if_nothing_was_said_of_places(vectors, behind):
    model, own = decoder(3), torch.arange(NUM_FRAMES)
    told = Rows(vectors, own, own, torch.ones(NUM_FRAMES), NUM_FRAMES)
    # Rounding of float64, and of the head's float32.
    torch.testing.assert_close(
        loss_of(model, told, behind=behind),
        loss_of(model, Rows.of_frames(vectors), behind=behind),
        rtol=1e-5,
        atol=0,
    )


def test_a_row_is_attended_to_as_the_copies_that_it_stands_for(vectors):
    """Of one layer, and copies at one place: elsewhere copies differ a little."""
    model, own = decoder(1), torch.arange(NUM_FRAMES)
    places = own * COPIES
    each = Rows(
        vectors.repeat_interleave(COPIES, 1),
        own.repeat_interleave(COPIES),
        places.repeat_interleave(COPIES),
        torch.ones(NUM_FRAMES * COPIES),
        NUM_FRAMES * COPIES,
    )
    one = Rows(vectors, own, places, torch.full((NUM_FRAMES,), float(COPIES)), NUM_FRAMES * COPIES)
    wanted = loss_of(model, each)
    torch.testing.assert_close(loss_of(model, one), wanted, rtol=1e-5, atol=0)
    unweighted = one._replace(copies=torch.ones(NUM_FRAMES))
    assert abs(loss_of(model, unweighted) - wanted) > 1e-3 * wanted
