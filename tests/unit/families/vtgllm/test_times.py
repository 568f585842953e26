"""Times as tokens, against what VTG-LLM's reference made of them."""

import json

import pytest

from groundserve.families.vtgllm.times import (
    TIME_TOKENS,
    read_spelled,
    spell_places,
)
from tests.support.reference import VTGLLM

RECORDED = json.loads((VTGLLM / "cases.json").read_text("utf-8"))
NUMBERS = RECORDED["functions"]["number_to_token"]


@pytest.mark.parametrize("vector", NUMBERS, ids=lambda vector: vector["number"])
def test_a_number_is_spelled_as_recorded(vector):
    spelled = "".join(TIME_TOKENS[place] for place in spell_places(vector["number"]))
    assert spelled == vector["evaluation"]


def spelled(number):
    return " ".join(TIME_TOKENS[place] for place in spell_places(number))


@pytest.mark.parametrize(
    ("text", "read"),
    [
        pytest.param(
            f"{spelled('12.3')} -  {spelled('19.5')} s", "0012.3 -  0019.5 s", id="a_span"
        ),
        pytest.param("cut 2 eggs", "cut 2eggs", id="a_number_of_the_text"),
        pytest.param("12 seconds", "12seconds", id="a_whole_number"),
        pytest.param(f"step 1. {spelled('5.0')}", "step 1.0005 . 0", id="a_stop_is_taken_in"),
        pytest.param("1 \n 2", "1\n2", id="a_new_line_stays"),
    ],
)
def test_a_spelled_time_is_read_as_the_reference_reads_it(text, read):
    assert read_spelled(text) == read
