"""Three blocks in a prompt, two feature tensors and positions of a family's own, built and served.

The family lies in `tests/families/blocks`: a folder and a line.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from groundserve import Client
from groundserve.options import AnswerOptions
from tests.families.tree import copy_with_family, interpreter_of
from tests.media_assets import LONG_GOP, asset_maker
from tests.support.answer_cases import CHECKPOINTS
from tests.triton.program import serving

PROGRAM = Path(__file__).with_name("blocks_program.py")
QUERY = "What happens?"


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return asset_maker(tmp_path_factory.mktemp("media"))(LONG_GOP)


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    tree = copy_with_family(tmp_path_factory.mktemp("tree"), "blocks")
    return interpreter_of(tree, tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("blocks")


@pytest.fixture(scope="module")
def said(folder, python, video):
    command = [python, "-I", PROGRAM, folder, CHECKPOINTS, video, QUERY]
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert run.returncode == 0, run.stderr
    return json.loads((folder / "said.json").read_text("utf-8"))


@pytest.mark.parametrize("profile", ["cpu", "torch"])
def test_answers_are_those_of_transformers_with_the_familys_positions(said, profile):
    tokens, logits = said["own"]
    assert said[profile] == tokens
    # Positions that are counted would give other logits.
    assert max(abs(a - b) for a, b in zip(logits, said["counted"][1], strict=True)) > 1e-3


def test_a_prompt_has_a_place_for_each_block_and_features_two_tensors(said):
    assert said["prompt"].count(-200) == 3
    assert said["shape"] == [12, 2, 5]


def test_a_server_answers_the_same(said, python, folder, video, tmp_path):
    options = AnswerOptions(task="chat", max_new_tokens=6)
    with (
        serving(folder / "cpu", tmp_path, options=[], python=python) as started,
        Client(started.addresses["grpc"]) as client,
    ):
        result = client.ask(video, QUERY, options)
    assert result.answers[0].token_ids.tolist() == said["cpu"]
    assert result.answers[0].prompt_token_ids.tolist() == said["prompt"]
