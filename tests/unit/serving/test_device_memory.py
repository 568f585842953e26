from __future__ import annotations

from dataclasses import replace

import pytest

from engine_build.triton.__main__ import LAYOUTS, REFERENCE_MODEL
from engine_build.triton.render import write_model
from engine_build.triton.specs import RepositoryLayout, model_specs
from groundserve.limits import MIB
from groundserve.manifest import ModelSpec
from groundserve.serving.device_memory import MemoryPools, memory_pools
from groundserve.serving.repository import read_configs


@pytest.fixture
def pools_of(tmp_path):
    def pools(layout: RepositoryLayout, model: ModelSpec = REFERENCE_MODEL) -> MemoryPools:
        for spec in model_specs(layout, model):
            write_model(spec, tmp_path)
        return memory_pools(read_configs(tmp_path), model)

    return pools


def test_pools_of_the_released_model(pools_of):
    """The sum in the module's docstring: both P and F are whole MiB."""
    chunk, features = 64 * 384 * 384 * 3, 16_384 * 1152 * 2
    assert chunk == 27 * MIB
    assert features == 36 * MIB
    needed = (4 * (2 * 27 + 2 * 36) + 11 * 36) * MIB
    assert needed == 900 * MIB
    assert pools_of(LAYOUTS["gpu"]) == MemoryPools(cuda_bytes=needed, pinned_bytes=needed)


def test_float32_features_are_twice_as_wide(pools_of):
    layout = replace(LAYOUTS["torch-cuda"], precision="fp32")
    assert pools_of(layout).cuda_bytes == (4 * (2 * 27 + 2 * 72) + 11 * 72) * MIB


def test_one_nvdec_halves_the_instances(pools_of):
    layout = replace(LAYOUTS["gpu"], num_nvdec=1)
    assert pools_of(layout).cuda_bytes == (2 * (2 * 27 + 2 * 36) + 11 * 36) * MIB


def test_small_model_keeps_the_servers_own_sizes(pools_of):
    model = replace(REFERENCE_MODEL, image_size=28, side=2, vision_token_num=64)
    assert pools_of(LAYOUTS["gpu"], model) == MemoryPools(
        cuda_bytes=64 * MIB, pinned_bytes=256 * MIB
    )
