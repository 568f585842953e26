"""What a server's metrics say."""

from __future__ import annotations

import re
import urllib.request

from groundserve.serving import TritonServer


def read_metrics(server: TritonServer) -> dict[str, float]:
    """Return all values, by name and labels as they are written."""
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics") as response:
        text = response.read().decode()
    found = re.findall(r"^(\w+(?:{.*})?) (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in found}
