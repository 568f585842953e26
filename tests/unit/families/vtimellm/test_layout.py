"""Finding the parts of a checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.vtimellm.layout import find_parts, is_layout
from tests.support.reference import VTIMELLM

CHECKPOINTS = VTIMELLM / "checkpoints"
STAGE = "vtimellm-vicuna-tiny-stage"


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A copy, to be changed, without what the reference's instructions do not name."""
    ignored = shutil.ignore_patterns("clip-hf", "*state_dict*", "*tuned*")
    return shutil.copytree(CHECKPOINTS, tmp_path / "checkpoints", ignore=ignored)


def retype(directory: Path, model_type: str) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": model_type}))


def test_of_several_the_published_ones_are_taken_and_the_others_named():
    parts = find_parts(CHECKPOINTS, {})
    assert parts.clip.name == "ViT-tiny.pt"
    assert [path.name for path in parts.adapters] == [f"{STAGE}2", f"{STAGE}3"]
    assert set(parts.left_aside) == {
        "clip/ViT-tiny-state_dict.pt",
        "clip-hf",
        f"{STAGE}2-tuned-projector",
    }


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (f"{STAGE}2", f"{STAGE}3 was trained upon stage 2, which is missing"),
        (f"{STAGE}[23]", f"missing: adapter .*found: .*projector {STAGE}1, base vicuna-tiny"),
        ("*", "no such directory"),
    ],
)
def test_a_missing_part_is_named_and_what_was_found(layout, gone, message):
    for path in layout.glob(gone):
        shutil.rmtree(path)
    if gone == "*":
        layout.rmdir()
    with pytest.raises(InvalidRequestError, match=message):
        find_parts(layout, {})


def test_of_several_bases_the_adapters_say_which(layout):
    shutil.copytree(layout / "vicuna-tiny", layout / "llama")
    parts = find_parts(layout, {})
    assert (parts.base.name, parts.left_aside) == ("vicuna-tiny", ("llama",))
    (layout / "vicuna-tiny").rename(layout / "vicuna")
    with pytest.raises(InvalidRequestError, match=r"part base may be llama, vicuna; choose with"):
        find_parts(layout, {})


def test_the_model_with_chatglm_is_told_from_that_with_vicuna(layout):
    for stage in (1, 2):
        shutil.copytree(layout / f"{STAGE}{stage}", layout / f"vtimellm-chatglm3-6b-stage{stage}")
    shutil.copytree(layout / "vicuna-tiny", layout / "chatglm3-6b")
    retype(layout / "chatglm3-6b", "chatglm")
    parts = find_parts(layout, {})
    assert (parts.base.name, parts.projector.parent.name) == ("vicuna-tiny", f"{STAGE}1")
    assert parts.left_aside == ("vtimellm-chatglm3-6b-stage2",)
    for path in layout.glob(f"{STAGE}?"):
        shutil.rmtree(path)
    assert is_layout(layout)
    with pytest.raises(UnsupportedError, match="VTimeLLM with ChatGLM3 is not served"):
        find_parts(layout, {})


def test_several_models_are_told_apart_by_their_parts(layout):
    for stage in (1, 2, 3):
        shutil.copytree(layout / f"{STAGE}{stage}", layout / f"vtimellm-vicuna-13b-stage{stage}")
    message = r"several models \(vicuna-13b, vicuna-tiny\); name the parts of one with"
    with pytest.raises(InvalidRequestError, match=message):
        find_parts(layout, {})
    given = {"projector": [layout / f"{STAGE}1"], "adapter": [layout / f"{STAGE}2"]}
    parts = find_parts(layout, given)
    assert parts.projector == layout / f"{STAGE}1" / "mm_projector.bin"
