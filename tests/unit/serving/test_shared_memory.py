from __future__ import annotations

from pathlib import Path

import pytest

from groundserve.errors import UnavailableError
from groundserve.limits import MIB, Limits
from groundserve.manifest import ModelSpec
from groundserve.serving.shared_memory import check_room, needed_bytes

REPOSITORIES = Path(__file__).parents[3] / "triton_models"
MODEL = ModelSpec(
    image_size=384,
    side=27,
    vision_hidden_size=1024,
    vision_token_num=16 * 1024,
    max_tokens=None,
    pad_token_id=0,
)


def write_config(repository: Path, name: str, text: str) -> None:
    (repository / name).mkdir()
    (repository / name / "config.pbtxt").write_text(text)


def test_needed_bytes_counts_stubs_and_their_largest_tensors(tmp_path):
    input_of = 'backend: "python" input {{ name: "{}" data_type: TYPE_{} dims: -1 }}'
    group = " instance_group {{ count: {} kind: KIND_CPU }}"
    write_config(tmp_path, "decode", input_of.format("VIDEO", "UINT8") + group.format(2))
    write_config(tmp_path, "encode", input_of.format("FEATURES", "FP16") + group.format(1))
    write_config(tmp_path, "ground", input_of.format("FEATURES", "FP32") + group.format(1))
    write_config(tmp_path, "select", input_of.format("OTHER", "UINT8") + group.format(1))
    write_config(tmp_path, "all", 'platform: "ensemble"')
    # Five regions of 32 MiB, an upload of 10 MiB and three chunks of 64 x 384 x 384 x 3 bytes in
    # two, 16 Ki tokens of 2 KiB and of 4 KiB.
    needed = needed_bytes(tmp_path, MODEL, Limits(max_upload_bytes=10 * MIB))
    assert needed == (5 * 32 + 2 * (10 + 3 * 27) + 32 + 64) * MIB


def test_needed_bytes_leaves_out_what_is_no_process(tmp_path):
    text = (
        'backend: "tensorrt" output { name: "FEATURES" data_type: TYPE_FP16 dims: -1 }'
        " instance_group { count: 1 kind: KIND_GPU }"
    )
    write_config(tmp_path, "encode", text)
    assert needed_bytes(tmp_path, MODEL, Limits()) == 0


@pytest.mark.parametrize(
    ("layout", "num_mib"),
    [
        # 4 x (32 + 256 + 3 x 27) for video_features, 2 x 32 for video_decode, 2 x (32 + 64) for
        # vision_encoder and grounding, 32 for frame_selector.
        pytest.param("cpu", 1764, id="cpu"),
        # The encoder is no process and features have half the width.
        pytest.param("gpu", 4 * (32 + 256 + 81) + 64 + 64 + 32, id="gpu"),
    ],
)
def test_needed_bytes_of_the_committed_repository(layout, num_mib):
    assert needed_bytes(REPOSITORIES / layout, MODEL, Limits()) == num_mib * MIB


def test_check_room_names_the_number_and_the_fix(tmp_path):
    check_room(MIB, shm_dir=tmp_path)
    too_much = 2**60
    with pytest.raises(
        UnavailableError, match=r"need 1099511627776 MiB .*--shm-size=1099511627776m"
    ):
        check_room(too_much, shm_dir=tmp_path)
