"""The checkpoint that answers in text really tells when: a small form of its card's figures."""

import json

import pytest

from groundserve.weights.checkpoint_place import SHIPPED_ANSWERER
from tests.cli.command import run_cli
from train.digits.moments import write_moment_videos

# Below the card's figure by more than ten videos can vary.
MIN_R1 = 0.5


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """One drawn video with its questions."""
    folder = tmp_path_factory.mktemp("drawn")
    return write_moment_videos(folder, split="test", seed=17, num_videos=1)[0]


def test_it_tells_moments_far_better_than_answers_without_looking():
    finished = run_cli(*("eval", "moments", "--seed", 31, "--num-videos", 10, "--json"))
    assert finished.code == 0, finished.stderr
    told = json.loads(finished.stdout)
    assert told["all"]["R1@0.5"] > MIN_R1
    assert told["by_type"].keys() == {"semantic", "order", "motion", "semantic_motion"}
    for floor in told["floors"].values():
        assert floor.keys() == told["all"].keys()
        assert told["all"]["mIoU"] > 1.5 * floor["mIoU"]


def test_ask_without_a_checkpoint_answers_and_says_what_it_knows(video):
    question = next(one for one in video.questions if one.type == "semantic")
    finished = run_cli("ask", video.path, "--query", question.text, "--json")
    assert finished.code == 0, finished.stderr
    assert "handwritten digits" in finished.stderr
    (answer,) = json.loads(finished.stdout)["answers"]
    (moment,) = answer["moments"]
    assert 0 <= moment["start"] < moment["end"] <= video.duration_seconds


def test_a_cache_that_cannot_be_written_is_named(video, tmp_path, monkeypatch):
    (tmp_path / "groundserve").write_text("in its place")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    finished = run_cli("ask", video.path, "--query", "a seven")
    assert finished.code == 2
    (line,) = [one for one in finished.stderr.splitlines() if "error:" in one]
    assert f"the cache {tmp_path / 'groundserve'}: File exists" in line
    assert "XDG_CACHE_HOME" in line


@pytest.mark.parametrize("name", ["digits", "digits-text"])
def test_a_folder_that_hides_a_shipped_checkpoint_is_named(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    finished = run_cli("build", "--checkpoint", name, "--out", tmp_path / "engines")
    assert finished.code == 2
    assert f"it hides the {name} of groundserve: rename it" in finished.stderr


def test_the_package_says_what_it_knows_and_how_it_was_made():
    assert (SHIPPED_ANSWERER / "README.md").is_file()
    size = sum(path.stat().st_size for path in SHIPPED_ANSWERER.rglob("*") if path.is_file())
    assert size <= 12e6
    for name in ("config.json", "log.jsonl", "timing.jsonl"):
        assert (SHIPPED_ANSWERER / "training" / name).is_file()
