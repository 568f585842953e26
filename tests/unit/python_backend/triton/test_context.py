from __future__ import annotations

import pytest

from groundserve.errors import EngineMismatchError
from python_backend.triton._context import check_numpy

WHEEL_MAPS = b"7f00-7f01 r-xp /venv/nvidia_pytriton.libs/libcudart-09529672.so.12.6.77\n"


def test_numpy_2_is_refused_in_the_wheels_server():
    with pytest.raises(EngineMismatchError, match=r"needs numpy < 2, got 2\.0\.1; install"):
        check_numpy("2.0.1", WHEEL_MAPS)


@pytest.mark.parametrize(("version", "maps"), [("1.26.4", WHEEL_MAPS), ("2.0.1", b"libc.so.6\n")])
def test_other_combinations_are_fine(version, maps):
    check_numpy(version, maps)
