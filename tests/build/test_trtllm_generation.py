"""Building a decoder that generates: the command, its sizes, and a build with a double."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from engine_build.trtllm.build import build_command
from engine_build.trtllm.generation import (
    GenerationLimits,
    build_generation_engine,
    generation_flags,
)
from engine_build.trtllm.llama import convert_checkpoint
from groundserve.errors import UnsupportedError
from groundserve.families import get_family
from groundserve.families.vtimellm.checkpoint import Checkpoint
from groundserve.families.vtimellm.spec import VTimeLLMSpec
from tests.answer_cases import CHECKPOINTS, MODELS
from tests.fake_tensorrt_llm.builder import check_max_num_tokens, parse_arguments, plugin_config
from tests.reference import REPOSITORY

SPEC = VTimeLLMSpec()
FAMILY = get_family("vtimellm")
LIMITS = GenerationLimits.for_model(FAMILY, SPEC)


def shown_command():
    """Return the words of the command that the documentation shows."""
    text = (REPOSITORY / "docs" / "tensorrt_llm.md").read_text("utf-8")
    blocks = re.findall(r"```bash\n(trtllm-build .*?)```", text, flags=re.DOTALL)
    return shlex.split(blocks[1].replace("\\\n", " "))


def command(precision="fp16"):
    return build_command(
        Path("CONVERTED"),
        Path("engines/trtllm"),
        flags=generation_flags(LIMITS, precision=precision),
        timing_cache=Path("CONVERTED/timing.cache"),
    )


def test_the_command_is_the_documented_one():
    assert command() == shown_command()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_builder_takes_every_value_and_changes_none(precision):
    arguments = parse_arguments(command(precision)[1:])
    assert arguments["model_cls_file"] is None  # the library's own network
    assert arguments["kv_cache_type"] == "PAGED"
    plugins = plugin_config(arguments)
    assert plugins["use_paged_context_fmha"]
    assert plugins["context_fmha"]
    names = ("max_batch_size", "max_seq_len", "max_num_tokens", "opt_num_tokens")
    sizes = {name: arguments[name] for name in names}
    assert check_max_num_tokens(sizes) == sizes


def test_every_batch_of_the_longest_requests_has_a_place():
    assert LIMITS.max_seq_len == SPEC.max_tokens == 4096
    assert LIMITS.max_prompt_embedding_table_size == 100 * LIMITS.max_batch_size
    assert LIMITS.max_num_tokens >= LIMITS.max_seq_len
    flags = generation_flags(LIMITS, precision="fp16")
    assert flags["max_input_len"] < flags["max_seq_len"]


def test_a_model_without_a_limit_is_refused():
    with pytest.raises(UnsupportedError, match="does not say how many it has"):
        GenerationLimits.for_model(FAMILY, replace(SPEC, max_tokens=None))


@pytest.mark.usefixtures("machine")
def test_a_build_converts_runs_the_builder_and_completes_the_config(tmp_path):
    opened = Checkpoint.open(CHECKPOINTS, parts=MODELS["stage3"])
    model = opened.model_spec(pad_token_id=0)
    build_generation_engine(
        lambda directory: convert_checkpoint(opened, directory, precision="fp16"),
        tmp_path / "out" / "trtllm",
        limits=GenerationLimits.for_model(FAMILY, model),
        precision="fp16",
    )
    config = json.loads((tmp_path / "out" / "trtllm" / "config.json").read_text())
    assert config["pretrained_config"]["architecture"] == "LlamaForCausalLM"
    assert config["pretrained_config"]["dtype"] == "float16"
    assert config["build_config"]["max_seq_len"] == model.max_tokens
    assert config["groundserve"]["tensorrt"] == "10.14.1.48"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["trtllm"]


@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_other_precisions_are_refused(precision, tmp_path):
    with pytest.raises(UnsupportedError, match=f"bf16 or fp16, got precision {precision}"):
        build_generation_engine(print, tmp_path, limits=LIMITS, precision=precision)


def test_a_machine_without_the_builder_says_what_is_missing(tmp_path):
    with pytest.raises(UnsupportedError, match=r"1\.2\.1, which is not installed here"):
        build_generation_engine(print, tmp_path, limits=LIMITS, precision="fp16")
