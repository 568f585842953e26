"""A family is a folder and a line: a toy is built, served and scored with nothing else.

The toy lies in `tests/families/toy` as it would in `groundserve/families/toy`, and is put into a
copy of the four packages. Clients are those of this tree, which has never heard of it.
"""

from __future__ import annotations

import difflib
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from groundserve import Client, ScoreOptions
from tests.cli.command import run_cli
from tests.families import toy_program
from tests.families.toy_reference import (
    MAX_FRAMES,
    STRIDE,
    decode,
    frame_logits,
    write_checkpoint,
)
from tests.families.tree import (
    PACKAGES,
    REGISTRY,
    copy_with_family,
    interpreter_of,
    registry_line,
)
from tests.support.reference import REPOSITORY
from tests.triton.program import serving
from tests.triton.protocol import Protocol, texts, upload

FOLDER = Path("groundserve/families/toy")
QUERIES = ["when does a man turn on red", "red bike turn"]
TOP_K = 7


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """The packages with the toy in them."""
    return copy_with_family(tmp_path_factory.mktemp("tree"), "toy")


@pytest.fixture(scope="module")
def python(tree, tmp_path_factory) -> Path:
    return interpreter_of(tree, tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Holds the checkpoint, and then the engine directories."""
    made = tmp_path_factory.mktemp("toy")
    write_checkpoint(made / "toy-tiny")
    return made


@pytest.fixture(scope="module")
def video(clips) -> Path:
    return clips["bikes"]


@pytest.fixture(scope="module")
def found(tree, python, folder, video) -> dict:
    """What the tree with the toy said and answered in one process."""
    command = [python, "-I", toy_program.__file__, folder, video, *QUERIES]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    said = json.loads((folder / "said.json").read_text("utf-8"))
    assert Path(said["tree"]).is_relative_to(tree)
    return said


@pytest.fixture(scope="module")
def served(found, python, folder, tmp_path_factory):
    """`groundserve serve` of that tree, with a cache."""
    logs = tmp_path_factory.mktemp("logs")
    options = ["--cache-dir", logs / "cache"]
    with serving(folder / "cpu", logs, options=options, python=python) as started:
        yield started


@pytest.fixture(scope="module")
def client(served):
    with Client(served.addresses["grpc"]) as opened:
        yield opened


@pytest.fixture(scope="module")
def expected(folder, video) -> tuple[list[int], list]:
    """Ordinals, and each question's logits, from the file by PyAV, Pillow and numpy alone."""
    ordinals, frames = decode(video)
    assert len(ordinals) == MAX_FRAMES
    return ordinals, [frame_logits(folder / "toy-tiny", frames, query) for query in QUERIES]


def assert_answer(answer: dict, expected, *, top_k: int = 32) -> None:
    """Compare to the last bit: see `toy_reference`."""
    ordinals, questions = expected
    assert answer["frame_indices"] == ordinals
    for query, logits in zip(answer["queries"], questions, strict=True):
        np.testing.assert_array_equal(np.float32(query["frame_logits"]), logits)
        best_first = np.argsort(-logits, kind="stable")
        assert query["selected_frames"] == sorted(ordinals[i] for i in best_first[:top_k])


def test_it_is_built_with_its_gate(found):
    for profile in ("cpu", "torch"):
        said = found["said"][f"build {profile}"]
        assert said["code"] == 0, said["stderr"]
        answer = json.loads(said["stdout"].splitlines()[-1])
        assert answer["engine"]["family"] == "toy"
        checks = answer["gate"]["checks"]
        assert {check["output"] for check in checks} == {"features", "logits"}
        assert all(check["error"] <= check["bound"] for check in checks)
        assert answer["gate"]["mask_probe"] > 0
        assert not answer["gate"]["not_run"]


@pytest.mark.parametrize("profile", ["gpu", "gpu-trtllm"])
def test_a_gpu_profile_is_refused_by_the_familys_name(found, profile):
    said = found["said"][f"build {profile}"]
    assert said["code"] == 2
    assert said["stderr"].endswith(
        f"the family toy has no engines for the profile {profile}; build it with --profile torch "
        "--device cuda for a GPU, or with --profile cpu\n"
    )


def test_one_process_computes_what_numpy_does(found, expected):
    assert found["answers"].keys() == {"cpu", "torch", "checkpoint"}
    for answer in found["answers"].values():
        assert_answer(answer, expected)
        assert answer["engine"]["family"] == "toy"
        assert answer["num_frames"] == MAX_FRAMES


def test_a_client_that_never_heard_of_it_gets_its_answer(client, video, expected):
    assert client.is_ready()
    result = client.score(video, QUERIES, ScoreOptions(top_k=TOP_K))
    assert_answer(result.to_json(), expected, top_k=TOP_K)
    assert result.engine["family"] == "toy"
    assert result.engine["checkpoint"] == "toy-tiny"
    assert result.grid is None


def test_its_ensemble_answers_by_its_name(served, video, expected):
    protocol = Protocol("grpc", served.addresses["grpc"].removeprefix("grpc://"))
    inputs = {"VIDEO": upload(video.read_bytes()), "QUERY": texts(*QUERIES)}
    answer = protocol.infer("toy", inputs, request_id="raw")
    protocol.client.close()
    info = json.loads(answer["INFO"][0])
    assert info["engine"]["family"] == "toy"
    assert info["frame_stride"] == STRIDE
    assert "grid" not in info
    rows = zip(answer["FRAME_LOGITS"], answer["SELECTED_FRAMES"].tolist(), strict=True)
    queries = [{"frame_logits": logits, "selected_frames": kept} for logits, kept in rows]
    frame_indices = answer["FRAME_INDICES"].tolist()
    assert_answer({"frame_indices": frame_indices, "queries": queries}, expected)


def test_a_tree_without_it_refuses_its_engines(found, folder, video):
    for command in (
        ["score", video, "--query", "when", "--engines", folder / "cpu"],
        ["serve", "--engines", folder / "cpu"],
        ["doctor", "--engines", folder / "cpu"],
    ):
        said = run_cli(*command)
        assert said.code != 0
        assert "manifest.json: family must be one" in said.stderr
        assert "toy" in said.stderr


def test_nothing_but_its_folder_and_a_line_was_needed(served, tree):
    ours, theirs = _files(REPOSITORY), _files(tree)
    added = theirs.keys() - ours.keys()
    assert {path.parent for path in added} == {FOLDER}
    assert not ours.keys() - theirs.keys()
    assert [path for path in ours if ours[path] != theirs[path]] == [REGISTRY]
    before, after = (
        (root / REGISTRY).read_text("utf-8").splitlines(True) for root in (REPOSITORY, tree)
    )
    changes = [line for line in difflib.ndiff(before, after) if not line.startswith(" ")]
    assert changes == ["+ " + registry_line("toy")]


def _files(root: Path) -> dict[Path, bytes]:
    return {
        path.relative_to(root): path.read_bytes()
        for package in PACKAGES
        for path in (root / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
