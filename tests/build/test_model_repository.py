"""The committed rendering of Triton's configs is current, and its models fit together."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from engine_build.triton.__main__ import RENDERINGS, render_all
from tests.support.reference import REPOSITORY

COMMITTED = REPOSITORY / "triton_models"


def files(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def read_configs(rendering: str) -> dict[str, ModelConfig]:
    return {
        path.parent.name: text_format.Parse(path.read_text(), ModelConfig())
        for path in (COMMITTED / rendering).glob("*/config.pbtxt")
    }


def test_committed_rendering_is_current(tmp_path):
    render_all(tmp_path)
    assert files(tmp_path) == files(COMMITTED), "run: python -m engine_build.triton"


@pytest.mark.parametrize("rendering", RENDERINGS)
def test_ensemble_is_front_by_the_name_of_the_family(rendering):
    configs = read_configs(rendering)
    ensemble, front = configs[RENDERINGS[rendering].family.name], configs["front"]
    (step,) = ensemble.ensemble_scheduling.step
    assert (step.model_name, step.model_version) == ("front", -1)
    assert dict(step.input_map) == {tensor.name: tensor.name for tensor in ensemble.input}
    assert dict(step.output_map) == {tensor.name: tensor.name for tensor in ensemble.output}
    assert (ensemble.input, ensemble.output) == (front.input, front.output)
