from __future__ import annotations

import pytest

from groundserve.errors import EngineMismatchError
from groundserve.serving.repository import read_configs


@pytest.mark.parametrize("text", [b"name: ", b"max_batch_size: many", b"\xff"])
def test_configuration_that_was_changed_in_place_is_named(tmp_path, text):
    (tmp_path / "grounding").mkdir()
    (tmp_path / "grounding" / "config.pbtxt").write_bytes(text)
    with pytest.raises(EngineMismatchError, match=r"grounding/config.pbtxt is no readable model"):
        read_configs(tmp_path)
