"""Where parts are found: by the YAML, by name, and what is said where they are not."""

import shutil
from pathlib import Path

import pytest

from groundserve.errors import InvalidRequestError
from groundserve.families.vtgllm.layout import find_parts, is_layout
from tests.support.reference import VTGLLM, VTGLLM_LLAMA


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one YAML and links to the parts, which are not read here."""
    (tmp_path / "eval_configs").mkdir()
    shutil.copy(VTGLLM / "eval_configs" / "interpolation.yaml", tmp_path / "eval_configs")
    (tmp_path / "model").symlink_to(VTGLLM / "model")
    return tmp_path


def test_parts_are_where_the_yaml_says(folder):
    assert is_layout(folder)
    parts = find_parts(folder, {})
    assert parts.config_name == "interpolation.yaml"
    assert parts.checkpoint.samefile(VTGLLM / "model/vtgllm/vtgllm.pth")
    assert parts.eva.samefile(VTGLLM / "model/eva-vit-g/eva_vit_g.pth")
    assert parts.q_former.name == "instruct_blip_vicuna7b_trimmed.pth"
    assert parts.base.samefile(VTGLLM_LLAMA)
    assert parts.bert.samefile(VTGLLM / "model/bert-base-uncased")
    assert parts.time_fill == "reference"


def test_a_part_that_is_named_goes_before_the_yamls(folder):
    given = {"checkpoint": ["model/vtgllm/vtgllm_no_time_token.pth"], "base": [str(folder)]}
    parts = find_parts(folder, {**given, "time_fill": ["corrected"]})
    assert parts.checkpoint.name == "vtgllm_no_time_token.pth"
    assert parts.base == folder
    assert parts.time_fill == "corrected"


def test_all_that_is_missing_is_told_at_once(folder):
    (folder / "model").unlink()
    with pytest.raises(InvalidRequestError, match="parts of vtgllm are missing") as caught:
        find_parts(folder, {})
    for name in ("checkpoint", "eva", "q_former", "base", "bert"):
        assert f"{name} (" in str(caught.value)


def test_without_a_yaml_it_is_none(tmp_path):
    assert not is_layout(tmp_path)
    assert not is_layout(tmp_path / "nowhere")
    with pytest.raises(InvalidRequestError, match=r"config \(a YAML file"):
        find_parts(tmp_path, {})
    (tmp_path / "eval_configs").mkdir()
    (tmp_path / "eval_configs" / "other.yaml").write_text("model:\n  arch: timechat\n")
    assert not is_layout(tmp_path)
