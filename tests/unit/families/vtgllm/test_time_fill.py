"""What untrained seconds become, against the reference and a plain computation of its rule."""

import hashlib

import pytest
import torch

from groundserve.families.vtgllm.front import fill_seconds
from tests.support.vtgllm_stages import FUNCTIONS, TENSORS, open_config

TRAINED = [3, 4, 8]
NUM_ROWS = 12


def table():
    rows = torch.zeros(NUM_ROWS, 2)
    for row in TRAINED:
        rows[row] = torch.tensor([10.0 * row, -1.0])
    return rows


@pytest.mark.parametrize("vector", FUNCTIONS["time_fill"], ids=lambda vector: vector["before"])
def test_reference_fill_is_the_recorded_one_bit_for_bit(vector):
    before = TENSORS[f"functions.{vector['before']}"]
    assert before.ne(0).any(dim=1).nonzero().flatten().tolist() == vector["trained_rows"]
    filled = fill_seconds(before, "reference")
    assert torch.equal(filled, TENSORS[f"functions.{vector['after']}"])


def test_reference_fill_of_the_checkpoint_is_the_recorded_one():
    recorded = FUNCTIONS["time_fill_checkpoint"]
    seconds = open_config("interpolation").load_front().seconds.weight
    digest = hashlib.sha256(seconds.detach().numpy()).hexdigest()
    assert digest == recorded["after"]["sha256"]
    for row, values in recorded["rows"].items():
        assert seconds[int(row), :4].tolist() == pytest.approx(values, rel=1e-8)


def test_corrected_fill_interpolates_and_holds_the_ends():
    filled = fill_seconds(table(), "corrected")
    expected = [30, 30, 30, 30, 40, 50, 60, 70, 80, 80, 80, 80]
    assert filled[:, 0].tolist() == expected
    assert filled[:, 1].tolist() == [-1] * NUM_ROWS


@pytest.mark.parametrize("fill", ["none", "reference", "corrected"])
def test_what_was_trained_stays_and_the_table_given_too(fill):
    before = table()
    filled = fill_seconds(before, fill)
    assert torch.equal(filled[TRAINED], table()[TRAINED])
    assert torch.equal(before, table())
    if fill == "none":
        assert torch.equal(filled, before)
