"""What untrained seconds become, against the reference and a plain computation of its rule."""

import hashlib

import pytest
import torch

from groundserve.families.vtgllm.time_fill import fill_seconds
from tests.vtgllm_stages import FUNCTIONS, TENSORS, open_config

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


def test_reference_fill_weighs_the_far_row_more_and_runs_away_behind_the_last():
    filled = fill_seconds(table(), "reference")
    # 1 from row 4, 3 from row 8: the near one's share is a quarter.
    assert filled[5].tolist() == [0.25 * 40 + 0.75 * 80, -1]
    # Row 11 is filled first: 8 times -3/9; then it stands for the row above.
    last = torch.tensor([80.0, -1.0]) * 3 / -9
    torch.testing.assert_close(filled[11], last)
    torch.testing.assert_close(filled[9], torch.tensor([80.0, -1.0]) / -9 + last * -10 / -9)


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


@pytest.mark.parametrize("fill", ["none", "reference", "corrected"])
def test_a_table_without_a_trained_second_stays_zero(fill):
    assert not fill_seconds(torch.zeros(5, 3), fill).any()


def test_a_row_is_trained_if_any_of_its_values_is_not_zero():
    rows = table()
    rows[6] = torch.tensor([0.0, 2.0])
    assert fill_seconds(rows, "corrected")[6].tolist() == [0, 2]
