"""A program that starts another, says so and breaks down."""

import subprocess
import sys

child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(f"a child is {child.pid}", flush=True)  # noqa: T201 - its last words
sys.exit("no room")
