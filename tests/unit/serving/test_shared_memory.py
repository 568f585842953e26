from __future__ import annotations

from pathlib import Path

import pytest

from groundserve.errors import UnavailableError
from groundserve.families.videoitg import FAMILY
from groundserve.families.videoitg.spec import VideoITGSpec
from groundserve.limits import MIB, Limits
from groundserve.serving import shared_memory as module
from groundserve.serving.repository import read_configs
from groundserve.serving.shared_memory import RegionSizes, check_room, region_sizes
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


def write_config(repository: Path, name: str, text: str) -> None:
    (repository / name).mkdir()
    (repository / name / "config.pbtxt").write_text(text)


def sizes_of(repository: Path, **limits: int) -> RegionSizes:
    return region_sizes(read_configs(repository), TENSORS, Limits(**limits))


def test_regions_have_room_for_the_largest_tensors(tmp_path):
    input_of = 'backend: "python" input {{ name: "{}" data_type: TYPE_{} dims: -1 }}'
    group = " instance_group {{ count: {} kind: KIND_CPU }}"
    write_config(tmp_path, "features", input_of.format("VIDEO", "UINT8") + group.format(2))
    write_config(tmp_path, "encode", input_of.format("PIXELS", "UINT8") + group.format(1))
    write_config(tmp_path, "ground", input_of.format("FEATURES", "FP32") + group.format(1))
    write_config(tmp_path, "select", input_of.format("OTHER", "UINT8") + group.format(1))
    write_config(tmp_path, "all", 'platform: "ensemble"')
    sizes = sizes_of(tmp_path, max_upload_bytes=10 * MIB)
    # 16 Ki tokens of 4 KiB are the largest besides uploads, and 4 MiB for small tensors.
    assert sizes.default_bytes == (64 + 4) * MIB
    # An upload of 10 MiB and five chunks of 64 x 384 x 384 x 3 bytes; 68 MiB are there.
    assert sizes.growth_bytes == (10 + 5 * 27 + 4 - 68) * MIB
    assert sizes.budgets == {
        "features": (10 + 5 * 27 + 4) * MIB,
        **dict.fromkeys(("encode", "ground", "select"), 68 * MIB),
    }
    assert sizes.total_bytes == (2 * (10 + 5 * 27 + 4) + 3 * 68) * MIB


def test_one_step_makes_room_for_an_upload(tmp_path):
    """In smaller ones a region would grow by each upload that is larger than those before."""
    text = 'backend: "python" input { name: "VIDEO" data_type: TYPE_UINT8 dims: -1 }'
    write_config(tmp_path, "features", text + " instance_group { count: 1 }")
    sizes = sizes_of(tmp_path, max_upload_bytes=1024 * MIB)
    assert sizes.growth_bytes > 1024 * MIB


def test_what_is_no_python_process_has_no_region(tmp_path):
    text = (
        'backend: "tensorrt" output { name: "FEATURES" data_type: TYPE_FP16 dims: -1 }'
        " instance_group { count: 1 kind: KIND_GPU }"
    )
    write_config(tmp_path, "encode", text)
    sizes = sizes_of(tmp_path)
    assert sizes.total_bytes == 0
    assert sizes.default_bytes == 32 * MIB


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


def test_a_model_with_an_engine_on_a_gpu_is_not_loaded_twice():
    assert sizes_of(REPOSITORIES / "gpu").swappable == {
        "admission",
        "video_features",
        "video_decode",
        "frame_selector",
    }
    assert sizes_of(REPOSITORIES / "cpu").swappable == {
        "admission",
        "video_features",
        "video_decode",
        "vision_encoder",
        "grounding",
        "frame_selector",
    }


def test_check_room_names_the_number_and_the_fix(tmp_path):
    check_room(MIB, shm_dir=tmp_path)
    too_much = 2**60
    with pytest.raises(
        UnavailableError, match=r"need 1099511627776 MiB .*--shm-size=1099511627776m"
    ):
        check_room(too_much, shm_dir=tmp_path)


def test_a_family_may_hand_over_more_than_frames_of_one_stream(tmp_path):
    """A chunk of 4 MiB in two streams, and of 4 MiB of plan inputs, of which 2 have room."""
    tensors = VideoTensors(
        stream_names=frozenset({"CLIPS", "KEYS"}),
        image_size=128,
        chunk_bytes=4 * MIB,
        plan_input_bytes=4 * MIB // 64,
        num_features=0,
    )
    input_of = 'backend: "python" input {{ name: "{}" data_type: TYPE_UINT8 dims: -1 }}'
    group = " instance_group { count: 1 kind: KIND_GPU }"
    write_config(tmp_path, "features", input_of.format("VIDEO") + group)
    write_config(tmp_path, "encode", input_of.format("KEYS") + group)
    sizes = region_sizes(read_configs(tmp_path), tensors, Limits(max_upload_bytes=MIB))
    assert sizes.default_bytes == 32 * MIB
    # Of each five chunks, and the small tensors.
    assert sizes.budgets["features"] == (1 + 5 * 4 + (5 * 4 - 2) + 4) * MIB
    assert sizes.swappable == {"features"}
