"""VTG-LLM from frames to the decoder's block, against what its reference computed of the same."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from engine_build.decoder_export import export_front
from engine_build.onnx_export import export_vision_encoder
from groundserve.families import get_family
from groundserve.families.vision_inputs import VisionInputs
from python_backend.onnx_session import open_session
from tests.support.vtgllm_stages import (
    CASES,
    TENSORS,
    TOLERANCE,
    deviation,
    frame_text_ids,
    open_config,
    seen_frames,
)

FAMILY: Any = get_family("vtgllm")


@pytest.fixture(scope="module")
def seen(clips):
    @cache
    def seen(name: str) -> Tensor:
        return torch.from_numpy(seen_frames(CASES[name], clips))

    return seen


@pytest.fixture(scope="module")
def features(seen):
    @cache
    def features(name: str) -> Tensor:
        case = CASES[name]
        return encoded(open_config(case["config"]).load_vision(), seen(name), case)

    return features


def encoded(vision: Any, frames: Tensor, case: dict[str, Any]) -> Tensor:
    """Encode frames, eight at a time."""
    inputs = [frames] if (ids := frame_text_ids(case)) is None else [frames, ids]
    with torch.inference_mode():
        parts = zip(*(one.split(8) for one in inputs), strict=True)
        return torch.cat([vision(*part) for part in parts])


def seconds(case: dict[str, Any]) -> list[Tensor]:
    """Return what the front takes beside features."""
    if open_config(case["config"]).parts.config.real_time_stamp:
        return [torch.tensor(case["time_rows"], dtype=torch.float32)]
    return []


@pytest.mark.parametrize("name", CASES)
def test_stages_in_pytorch_are_the_recorded_ones(features, name):
    case = CASES[name]
    found = features(name)
    assert deviation(case["stages"]["qformer_output"], found) < TOLERANCE
    front = open_config(case["config"]).load_front()
    sampled: list[Tensor] = []
    front.sampler.register_forward_hook(lambda _, given, made: sampled.extend([*given, made]))
    with torch.inference_mode():
        block = front(found, *seconds(case))
    for stage, tensor in zip(("sampler_input", "slots"), sampled, strict=True):
        assert deviation(case["stages"][stage], tensor) < TOLERANCE
    assert deviation(case["stages"]["visual_tokens"], block) < TOLERANCE
    assert (sampled[1] - TENSORS[f"{name}.slots"]).abs().max() < TOLERANCE


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    @cache
    def sessions(config: str) -> tuple[Any, Any]:
        opened = open_config(config)
        spec = opened.model_spec(pad_token_id=0)
        folder = tmp_path_factory.mktemp(config)
        vision, front = folder / "vision_encoder.onnx", folder / "front.onnx"
        export_vision_encoder(opened.load_vision(), vision, VisionInputs.of(FAMILY, spec))
        export_front(
            opened.load_front(),
            front,
            feature_width=spec.feature_width,
            inputs=FAMILY.front_inputs(spec),
        )
        return open_session(vision, num_threads=1), open_session(front, num_threads=1)

    return sessions


def run(session: Any, *inputs: Tensor) -> Tensor:
    """Run a graph."""
    names = [one.name for one in session.get_inputs()]
    arrays = {name: one.numpy() for name, one in zip(names, inputs, strict=True)}
    (output,) = session.run(None, arrays)
    return torch.from_numpy(output)


@pytest.mark.parametrize("name", CASES)
def test_stages_of_the_graphs_are_the_recorded_ones(seen, sessions, name):
    case = CASES[name]
    vision, front = sessions(case["config"])
    found = encoded(lambda *inputs: run(vision, *inputs), seen(name), case)
    assert deviation(case["stages"]["qformer_output"], found) < TOLERANCE
    block = run(front, found, *seconds(case))
    assert deviation(case["stages"]["visual_tokens"], block) < TOLERANCE


def test_attention_of_the_graph_is_fused(sessions):
    import onnx

    vision, _ = sessions("interpolation")
    nodes = onnx.load(vision._model_path, load_external_data=False).graph.node
    fused = [node for node in nodes if node.op_type == "MultiHeadAttention"]
    config = open_config("interpolation")
    # Each block; each layer of the Q-Former, and every second one's reading of the tower.
    layers = config.q_former.num_hidden_layers
    assert len(fused) == config.eva.num_hidden_layers + layers + (layers + 1) // 2
    assert "Softmax" not in {node.op_type for node in nodes}
