"""`score --frames`, and docs/score.md as far as it needs no server."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.command import Finished, run_cli
from tests.cli.steps import assert_one_error, read_steps
from tests.media_assets.whole_file import decode_whole_file
from tests.support.reference import REPOSITORY

FRAMES_MD = (REPOSITORY / "docs" / "score.md").read_text("utf-8")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Finished]:
    """The command line, in this process; the whole test is in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return run_cli


def example(kind: str) -> str:
    (code,) = re.findall(rf"<!-- run: {kind} -->\n```\w+\n(.*?)```", FRAMES_MD, re.DOTALL)
    return code


@pytest.mark.parametrize("name", ["rotated", "vfr"])
def test_images_are_the_frames_that_were_scored(name, engine_dirs, clips, tmp_path, run):
    finished = run(
        *("score", clips[name], "--engines", engine_dirs["cpu"], "--top-k", 3, "--json"),
        *("--query", "a man", "--query", "a tree", "--frames", tmp_path / "frames"),
    )
    assert finished.code == 0, finished.stderr
    answer = json.loads(finished.stdout.splitlines()[-1])
    index = Path(answer["frames_index"])
    entries = [json.loads(line) for line in index.read_text("utf-8").splitlines()]
    assert {index.name, *(entry["file"] for entry in entries)} == set(os.listdir(index.parent))
    whole = decode_whole_file(clips[name])
    for number, query in enumerate(answer["queries"], start=1):
        own = [entry for entry in entries if entry["question"] == number]
        assert [entry["frame_index"] for entry in own] == query["selected_frames"]
        assert [entry["seconds"] for entry in own] == query["selected_seconds"]
        assert {(entry["query"], entry["video"]) for entry in own} == {
            (query["query"], str(clips[name]))
        }
        scores = dict(zip(answer["frame_indices"], query["frame_scores"], strict=True))
        by_rank = sorted(own, key=lambda entry: entry["rank"])
        assert [entry["score"] for entry in by_rank] == sorted(
            (scores[ordinal] for ordinal in query["selected_frames"]), reverse=True
        )
    for entry in entries:
        with Image.open(index.parent / entry["file"]) as image:
            np.testing.assert_array_equal(np.asarray(image), whole[entry["frame_index"]])


def test_the_documentations_lines_from_a_question_to_messages(engine_dirs, clips, tmp_path, run):
    shutil.copyfile(clips["bikes"], tmp_path / "bikes.mp4")
    program, *args = shlex.split(example("shell"))
    assert program == "groundserve"
    finished = run(*args, "--engines", engine_dirs["cpu"])
    assert finished.code == 0, finished.stderr
    assert re.search(r"^frames: frames/bikes-[0-9a-f]{8}_index\.jsonl$", finished.stdout, re.M)
    assert [step for _, step in read_steps(finished.stderr)][-1] == "writing frames"

    another = [text.replace("parked bicycle", "tree") for text in args]
    assert run(*another, "--engines", engine_dirs["cpu"]).code == 0
    variables: dict[str, object] = {}
    exec(example("files"), variables)
    for number, thing in enumerate(("parked bicycle", "tree"), start=1):
        (message,) = variables["conversations"][number - 1]
        paths = [part["path"] for part in message["content"] if part["type"] == "image"]
        assert [f"_q{number}_" in path for path in paths] == [True] * 4
        for path in paths:
            with Image.open(path) as image:
                assert image.size == (640, 272)
        assert message["content"][-1]["text"] == f"When is a {thing} shown?"
    assert len(variables["conversations"]) == 2

    again = run(*args, "--engines", engine_dirs["cpu"])
    assert again.code == 2
    assert read_steps(again.stderr) == []
    assert_one_error(again.stderr, "has frames of the question 'When is a parked bicycle shown?'")
    assert len(os.listdir("frames")) == 9
