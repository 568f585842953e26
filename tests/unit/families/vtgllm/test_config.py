"""The reference's YAML: what is read of it, and which models are refused by what it says."""

import os
from pathlib import Path

import pytest
import yaml

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.vtgllm.config import VTGLLMConfig
from tests.support.reference import VTGLLM

CONFIGS = VTGLLM / "eval_configs"


def read_with(folder: Path, **values: object) -> VTGLLMConfig:
    raw = yaml.safe_load((CONFIGS / "interpolation.yaml").read_text("utf-8"))
    for name, value in values.items():
        raw["model"][name] = value
        if value is None:
            del raw["model"][name]
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump(raw), "utf-8")
    return VTGLLMConfig.read(path)


def test_keys_that_are_missing_are_as_the_reference_has_them(tmp_path):
    config = read_with(tmp_path, max_frame_pos=None, max_time_pos=None, sample_num=None)
    assert (config.max_frame_pos, config.max_time_pos, config.sample_num) == (32, 1024, 256)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sampler_type": "codebook"}, 'sampler_type "codebook" is not served'),
        ({"max_txt_len": 4096}, "max_txt_len 4096, which scales the decoder's positions"),
        (
            {"qformer_text_input": True, "special_time_token": False},
            "qformer_text_input True and no time tokens is not served",
        ),
        ({"max_frame_pos": 2**31 - 1}, "max_frame_pos 2147483647 is not served"),
    ],
)
def test_models_that_are_refused_by_name(tmp_path, values, said):
    with pytest.raises(UnsupportedError, match=said):
        read_with(tmp_path, **values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"max_frame_pos": 0}, "max_frame_pos must be a whole number above 0, got 0"),
        ({"real_time_stamp": 1}, "real_time_stamp must be True or False, got 1"),
        ({"arch": "timechat"}, 'model.arch must be vtgllm, got "timechat"'),
    ],
)
def test_values_of_another_kind(tmp_path, values, said):
    with pytest.raises(InvalidRequestError, match=said):
        read_with(tmp_path, **values)


@pytest.mark.parametrize("text", ["model: [", "- a list", "!!python/name:x"])
def test_files_that_are_no_such_yaml(tmp_path, text):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(InvalidRequestError, match=r"the part config odd\.yaml"):
        VTGLLMConfig.read(path)


def test_a_device_or_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", Path("/dev/zero")):
        with pytest.raises(InvalidRequestError, match="is missing or no YAML"):
            VTGLLMConfig.read(path)
