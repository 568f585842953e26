"""The committed rendering of Triton's configs is current, and its models fit together."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from engine_build.triton.__main__ import LAYOUTS, RENDERINGS, render_all
from tests.support.reference import REPOSITORY

COMMITTED = REPOSITORY / "triton_models"


def files(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def parse(text: str) -> ModelConfig:
    return text_format.Parse(text, ModelConfig())


def committed(layout: str, model: str) -> ModelConfig:
    return parse((COMMITTED / layout / model / "config.pbtxt").read_text())


def test_committed_rendering_is_current(tmp_path):
    render_all(tmp_path)
    assert files(tmp_path) == files(COMMITTED), "run: python -m engine_build.triton"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_let_in_finds_a_place_in_every_queue(layout):
    """Those whom the door lets wait fit into the first queue; the second has no bound.

    With a policy of any kind Triton wakes who waits for `grounding` every half second only.
    """
    first, videos, questions = (
        committed(layout, name) for name in ("admission", "video_features", "grounding")
    )
    assert not questions.HasField("dynamic_batching")
    policy = videos.dynamic_batching.default_queue_policy
    assert int(first.parameters["max_waiting"].string_value) < policy.max_queue_size
    assert policy.timeout_action == policy.REJECT
    assert policy.allow_timeout_override
    assert policy.default_timeout_microseconds == 60_000_000


@pytest.mark.parametrize("rendering", RENDERINGS)
def test_ensemble_is_connected(rendering):
    """Each step takes tensors that the request or an earlier step gives, with the same type."""
    configs = {
        path.parent.name: parse(path.read_text())
        for path in (COMMITTED / rendering).glob("*/config.pbtxt")
    }
    ensemble = configs[RENDERINGS[rendering].family.name]
    known = {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in ensemble.input}
    for step in ensemble.ensemble_scheduling.step:
        model = configs[step.model_name]
        assert step.model_version == -1
        assert set(step.input_map) == {tensor.name for tensor in model.input}
        assert set(step.output_map) == {tensor.name for tensor in model.output}
        for tensor in model.input:
            assert known[step.input_map[tensor.name]] == (tensor.data_type, list(tensor.dims))
        for tensor in model.output:
            known[step.output_map[tensor.name]] = (tensor.data_type, list(tensor.dims))
    for tensor in ensemble.output:
        assert known[tensor.name] == (tensor.data_type, list(tensor.dims))
