"""The checkpoint that comes with groundserve really grounds: a small form of its card's figures."""

import json

import pytest

from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from tests.cli.command import run_cli

# Bars below the card's figures by more than eight videos can vary.
MIN_FRAME_AP = 0.8
MAX_SHUFFLED_AP = 0.6


@pytest.fixture(scope="module")
def evaluation():
    """Figures on eight fresh videos, as the command prints them."""
    finished = run_cli(
        *("eval", "--checkpoint", SHIPPED_CHECKPOINT, "--seed", 31, "--num-videos", 8, "--json")
    )
    assert finished.code == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


def test_frames_that_answer_come_first(evaluation):
    overall = evaluation["report"]["overall"]
    assert overall["frame_ap"]["value"] > MIN_FRAME_AP
    assert overall["base_rate"]["value"] < 0.25
    assert overall["recall_at_k"]["value"] > 3 * overall["uniform_recall"]["value"]


def test_the_question_is_read(evaluation):
    assert evaluation["control"]["overall"]["shuffled_ap"]["value"] < MAX_SHUFFLED_AP


def test_selected_frames_answer_more_than_uniform_ones(evaluation):
    accuracy = evaluation["downstream"]["accuracy"]
    assert accuracy["selected"]["value"] > accuracy["uniform"]["value"]


def test_the_package_says_what_it_knows_and_how_it_was_made():
    assert "handwritten digits" in (SHIPPED_CHECKPOINT / "groundserve_note.txt").read_text()
    assert (SHIPPED_CHECKPOINT / "README.md").is_file()
    for name in ("config.json", "log.jsonl", "timing.jsonl"):
        assert (SHIPPED_CHECKPOINT / "training" / name).is_file()
