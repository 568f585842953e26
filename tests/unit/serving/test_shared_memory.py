from __future__ import annotations

from pathlib import Path

import pytest

from groundserve.families.videoitg import FAMILY
from groundserve.families.videoitg.spec import VideoITGSpec
from groundserve.limits import MIB, Limits
from groundserve.serving import shared_memory as module
from groundserve.serving.repository import read_configs
from groundserve.serving.shared_memory import RegionSizes, region_sizes
from groundserve.serving.stubs import Stub
from groundserve.serving.video_tensors import VideoTensors

REPOSITORIES = Path(__file__).parents[3] / "triton_models"
MODEL = VideoITGSpec(
    image_size=384,
    side=27,
    vision_hidden_size=1024,
    vision_token_num=16 * 1024,
    max_tokens=None,
    pad_token_id=0,
)
TENSORS = VideoTensors.of(FAMILY, MODEL, Limits())


def sizes_of(repository: Path, **limits: int) -> RegionSizes:
    return region_sizes(read_configs(repository), TENSORS, Limits(**limits))


@pytest.mark.parametrize(
    ("layout", "num_mib"),
    [
        # Features of 64 MiB beside a chunk of 27 in `vision_encoder`: 95 for each of 10 at least;
        # `video_features` 256 + 5 x 27 + 64 + 4.
        pytest.param("cpu", 4 * 459 + 6 * 95, id="cpu"),
        # The encoder is no process and features have half the width.
        pytest.param("gpu", 4 * (256 + 5 * 27 + 32 + 4) + 5 * 36, id="gpu"),
    ],
)
def test_total_of_the_committed_repository(layout, num_mib):
    assert sizes_of(REPOSITORIES / layout).total_bytes == num_mib * MIB


SIZES = RegionSizes(
    default_bytes=1 * MIB,
    growth_bytes=9 * MIB,
    budgets={"features": 10 * MIB, "ground": 1 * MIB},
    num_stubs={"features": 2, "ground": 1},
    swappable=frozenset({"features"}),
)


@pytest.mark.parametrize(
    ("megabytes", "free", "expected"),
    [
        pytest.param((1, 1, 1), 18, set(), id="nothing_grown"),
        pytest.param((10, 10, 1), 0, set(), id="all_as_large_as_they_may_be"),
        pytest.param((19, 1, 1), 9, set(), id="outgrown_but_the_other_has_room"),
        pytest.param((19, 1, 1), 8, {"features"}, id="outgrown_and_the_other_has_none"),
        pytest.param((1, 1, 9), 8, set(), id="outgrown_but_there_can_be_no_second"),
    ],
)
def test_crowding_models(tmp_path, monkeypatch, megabytes, free, expected):
    stubs = []
    for pid, (model, size) in enumerate(
        zip(("features", "features", "ground"), megabytes, strict=True)
    ):
        with (tmp_path / f"region_{pid}").open("wb") as file:
            file.truncate(size * MIB)
        stubs.append(Stub(pid=pid, model=model, region=f"region_{pid}"))
    monkeypatch.setattr(module, "free_bytes", lambda shm_dir: free * MIB)
    gone = Stub(pid=9, model="ground", region="gone")
    ours = SIZES.crowding_models(stubs, shm_dir=tmp_path)
    assert ours == expected
    assert SIZES.crowding_models([gone], shm_dir=tmp_path) == set()
