from __future__ import annotations

import subprocess
import sys

import psutil

PROGRAM = """
import time
from groundserve.runtime.parent_watch import end_with_parent
end_with_parent()
print("ready", flush=True)
time.sleep(600)
"""
WAIT_SECONDS = 30.0


def test_process_ends_with_its_parent_amid_its_work():
    shell = '"$0" -c "$1" & echo $!; wait'
    with subprocess.Popen(
        ["sh", "-c", shell, sys.executable, PROGRAM], stdout=subprocess.PIPE, text=True
    ) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        assert parent.stdout.readline() == "ready\n"
        parent.kill()
        child.wait(WAIT_SECONDS)
