"""What `groundserve score` prints of an answer, whatever family gave it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.cli.command import run_cli
from tests.reference import SET_2
from tests.results import make_info, make_result

INFO = make_info(num_source_frames=100, fps=25.0, duration_seconds=4.0)
VIDEOITG = {"family": "videoitg"}
START = "bikes.mp4: 100 frames, 25.000 fps, 0:04.0; scored 4 frames"


@pytest.mark.parametrize(
    ("engine", "facts", "ending"),
    [
        pytest.param(VIDEOITG, {"grid": 5}, " with 5 x 5 tokens each", id="its_own_words"),
        pytest.param({"family": "newer"}, {"grid": 5}, "", id="unknown_family"),
        pytest.param({"family": ["videoitg"]}, {"grid": 5}, "", id="no_name"),
    ],
)
def test_first_line_says_what_became_of_each_frame(monkeypatch, engine, facts, ending):
    result = replace(make_result(), info=replace(INFO, engine=engine, facts=facts))
    scorer = SimpleNamespace(score=lambda *_, **__: result)
    monkeypatch.setattr("groundserve.cli.score.open_scorer", lambda *_, **__: nullcontext(scorer))
    finished = run_cli("score", SET_2 / "vfr.mp4", "--query", "?", env={"COLUMNS": "200"})
    assert finished.code == 0, finished.stderr
    assert finished.stdout.splitlines()[0] == START + ending
