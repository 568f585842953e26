from __future__ import annotations

from dataclasses import replace

import pytest

from engine_build.triton.__main__ import LAYOUTS, REFERENCE_FAMILY, REFERENCE_MODEL, RENDERINGS
from engine_build.triton.layout import RepositoryLayout
from engine_build.triton.render import write_model
from engine_build.triton.specs import model_specs
from groundserve.families.videoitg.spec import VideoITGSpec
from groundserve.limits import MIB, Limits
from groundserve.serving.device_memory import (
    MemoryPools,
    memory_pools,
)
from groundserve.serving.repository import read_configs
from groundserve.serving.video_tensors import VideoTensors


@pytest.fixture
def configs_of(tmp_path):
    def configs(layout: RepositoryLayout, model: VideoITGSpec = REFERENCE_MODEL):
        for spec in model_specs(layout, REFERENCE_FAMILY, model):
            write_model(spec, tmp_path)
        return read_configs(tmp_path)

    return configs


@pytest.fixture
def pools_of(configs_of):
    def pools(layout: RepositoryLayout, model: VideoITGSpec = REFERENCE_MODEL) -> MemoryPools:
        return memory_pools(
            configs_of(layout, model), VideoTensors.of(REFERENCE_FAMILY, model, Limits())
        )

    return pools


def test_pools_of_the_released_model(pools_of):
    """The sum in the module's docstring: both P and F are whole MiB."""
    chunk, features = 64 * 384 * 384 * 3, 16_384 * 1152 * 2
    assert chunk == 27 * MIB
    assert features == 36 * MIB
    needed = (4 * (5 * 27 + 2 * 36) + 17 * 36) * MIB
    assert needed == 1440 * MIB
    assert pools_of(LAYOUTS["gpu"]) == MemoryPools(cuda_bytes=needed, pinned_bytes=needed)


def test_pools_of_a_model_that_answers_in_text(tmp_path):
    """Its head is another model, which takes FEATURES as well."""
    rendering = RENDERINGS["vtimellm-torch-cuda"]
    for spec in model_specs(rendering.layout, rendering.family, rendering.model):
        write_model(spec, tmp_path)
    tensors = VideoTensors.of(rendering.family, rendering.model, Limits())
    features = 100 * 768 * 2
    assert memory_pools(read_configs(tmp_path), tensors).cuda_bytes == (
        4 * (5 * tensors.chunk_bytes + 2 * features) + 17 * features
    )


def test_small_model_keeps_the_servers_own_sizes(pools_of):
    model = replace(REFERENCE_MODEL, image_size=28, side=2, vision_token_num=64)
    assert pools_of(LAYOUTS["gpu"], model) == MemoryPools(
        cuda_bytes=64 * MIB, pinned_bytes=256 * MIB
    )
