from __future__ import annotations

from pathlib import Path

import pytest

from groundserve.errors import UnavailableError
from groundserve.limits import MIB, Limits
from groundserve.manifest import ModelSpec
from groundserve.serving.shared_memory import check_room, needed_bytes

REPOSITORY = Path(__file__).parents[3] / "triton_models" / "cpu"
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
    input_of = 'backend: "python" input {{ name: "{}" data_type: TYPE_UINT8 dims: -1 }}'
    group = " instance_group {{ count: {} kind: KIND_CPU }}"
    write_config(tmp_path, "decode", input_of.format("VIDEO") + group.format(2))
    write_config(tmp_path, "ground", input_of.format("FEATURES") + group.format(1))
    write_config(tmp_path, "select", input_of.format("OTHER") + group.format(1))
    write_config(tmp_path, "all", 'platform: "ensemble"')
    # Four regions of 32 MiB, an upload of 10 MiB in two, 16 Ki tokens of 4 KiB in one.
    needed = needed_bytes(tmp_path, MODEL, Limits(max_upload_bytes=10 * MIB))
    assert needed == (4 * 32 + 2 * 10 + 64) * MIB


def test_needed_bytes_of_the_committed_repository():
    assert 512 * MIB < needed_bytes(REPOSITORY, MODEL, Limits()) < 4096 * MIB


def test_check_room_names_the_number_and_the_fix(tmp_path):
    check_room(MIB, shm_dir=tmp_path)
    too_much = 2**60
    with pytest.raises(
        UnavailableError, match=r"need 1099511627776 MiB .*--shm-size=1099511627776m"
    ):
        check_room(too_much, shm_dir=tmp_path)
