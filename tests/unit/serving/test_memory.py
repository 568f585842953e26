"""What a server takes of memory, for a repository of one front and for the committed ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from engine_build.triton.__main__ import REFERENCE_FAMILY, REFERENCE_MODEL, RENDERINGS
from engine_build.triton.render import write_model
from engine_build.triton.specs import model_specs
from groundserve.errors import EngineMismatchError, UnavailableError
from groundserve.limits import GIB, MIB, Limits
from groundserve.serving import memory as module
from groundserve.serving.memory import MemoryNeeds, check_room, memory_needs, read_configs

MODELS = {
    "videoitg": 'platform: "ensemble" input {name: "VIDEO"}',
    "front": 'input {name: "VIDEO"} instance_group {count: 1} '
    'parameters {key: "max_running" value {string_value: "16"}} '
    'parameters {key: "max_waiting" value {string_value: "16"}}',
    "video_decode": 'output {name: "PIXELS"} instance_group {count: 2}',
    "grounding": 'input {name: "FEATURES" data_type: TYPE_FP16} instance_group {count: 1}',
}


def needs_of(model=REFERENCE_MODEL, **changes: str) -> MemoryNeeds:
    configs = {
        name: text_format.Parse(text, ModelConfig(backend="" if "platform" in text else "python"))
        for name, text in {**MODELS, **changes}.items()
    }
    return memory_needs(REFERENCE_FAMILY, model, configs, Limits())


def test_needs_of_the_released_model_on_a_gpu():
    """Both a chunk's frames and a video's features are whole MiB."""
    chunk, features = 27, 36
    assert chunk * MIB == 64 * 384 * 384 * 3
    assert features * MIB == 16_384 * 1152 * 2
    needs = needs_of()
    # 2 for each of two decoders decode and encode, 16 run.
    front = 256 + 4 * 5 * chunk + 16 * features + 4 * 4
    assert needs.region_bytes == (features + 4) * MIB
    default, step = features + 4, 256 + 32
    num_steps = -(-(front - default) // step) + 1
    assert needs.region_growth_bytes == step * MIB
    assert needs.region_budgets["front"] == (default + num_steps * step) * MIB
    assert needs.all_regions_bytes == (num_steps * step + 4 * default) * MIB
    assert needs.num_stubs == {"front": 1, "video_decode": 2, "grounding": 1}
    pool = (4 * 5 * chunk + (4 + 16) * features) * MIB
    assert needs.cuda_pool_bytes == needs.pinned_pool_bytes == pool
    assert needs.server_bytes == 32 * 256 * MIB + 4 * GIB


def test_small_model_keeps_the_servers_own_pools():
    needs = needs_of(replace(REFERENCE_MODEL, image_size=28, side=2, vision_token_num=64))
    assert (needs.cuda_pool_bytes, needs.pinned_pool_bytes) == (64 * MIB, 256 * MIB)
    assert needs.region_bytes == 32 * MIB


@pytest.mark.parametrize("name", sorted(RENDERINGS))
def test_every_repository_has_one_kind_of_process_that_takes_uploads(name, tmp_path):
    rendering = RENDERINGS[name]
    for spec in model_specs(rendering.layout, rendering.family, rendering.model):
        write_model(spec, tmp_path)
    configs = read_configs(tmp_path)
    needs = memory_needs(rendering.family, rendering.model, configs, Limits())
    budgets = needs.region_budgets
    large = {model: budget for model, budget in budgets.items() if budget > needs.region_bytes}
    assert large.keys() - {"front_stream"} == {"front"}
    (budget,) = set(large.values())
    assert budget >= needs.region_bytes + 2 * needs.region_growth_bytes
    assert set(needs.num_stubs.values()) <= {1, 2, 3, 4}


@pytest.mark.parametrize("text", [b"name: ", b"max_batch_size: many", b"\xff"])
def test_configuration_that_was_changed_in_place_is_named(tmp_path, text):
    (tmp_path / "grounding").mkdir()
    (tmp_path / "grounding" / "config.pbtxt").write_bytes(text)
    with pytest.raises(EngineMismatchError, match=r"grounding/config.pbtxt is no readable model"):
        read_configs(tmp_path)


def test_room_is_rounded_up(monkeypatch):
    monkeypatch.setattr(module, "free_bytes", lambda: 5 * MIB)
    assert check_room(5 * MIB) == 5
    with pytest.raises(UnavailableError, match=r"need 6 MiB .* has 5 MiB free.*--shm-size=6m"):
        check_room(5 * MIB + 1)
