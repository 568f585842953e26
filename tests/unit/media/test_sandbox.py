from __future__ import annotations

import signal
import subprocess
import sys

import pytest

SANDBOX = "from groundserve.media._sandbox import allow_cpu_seconds, limit_resources\n"
SANDBOX += "limit_resources(address_space_bytes=2**32)\n"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        pytest.param("allow_cpu_seconds(0)\nwhile True: pass", -signal.SIGXCPU, id="cpu"),
        pytest.param(
            "[allow_cpu_seconds(0) or sum(range(10**6)) for _ in range(120)]", 0, id="cpu_renewed"
        ),
        pytest.param(
            "try: bytearray(2**32)\nexcept MemoryError: exit(3)",
            3,
            id="memory",
        ),
        pytest.param(
            "import os\ntry: os.write(os.memfd_create('x'), b'x')\nexcept OSError: exit(4)",
            4,
            id="files",
        ),
    ],
)
def test_limits_hold(code: str, status: int) -> None:
    run = subprocess.run([sys.executable, "-c", SANDBOX + code], timeout=300)
    assert run.returncode == status
