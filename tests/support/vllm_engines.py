"""vLLM for tests: one engine at a time, on the decoder that is asked for."""

from __future__ import annotations

from pathlib import Path

from groundserve.engines.manifest import DECODER_NAME, Manifest
from python_backend.generate.vllm_process import UnixConnection, VllmEngine


class OneEngine:
    """Keeps the last engine, which serves all directories that have the same decoder."""

    def __init__(self) -> None:
        self._decoder: dict[str, str] | None = None
        self.engine: VllmEngine | None = None

    def socket(self, engine_dir: Path) -> Path:
        """Return where the decoder of a directory is served; another engine ends."""
        files = Manifest.load(engine_dir).files.items()
        decoder = {name: sha for name, sha in files if name.startswith(f"{DECODER_NAME}/")}
        if decoder != self._decoder or self.engine is None:
            self.close()
            self.engine = VllmEngine.start(engine_dir)
            self._decoder = decoder
        return self.engine.socket

    def close(self) -> None:
        if self.engine is not None:
            self.engine.close()
        self.engine = None


def metric(socket: Path, name: str) -> float:
    """Return the sum of one of vLLM's metrics over its labels."""
    connection = UnixConnection(socket, timeout=60.0)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    found = [line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
    assert found, f"vLLM has no metric {name}"
    return sum(float(line.rpartition(" ")[2]) for line in found)
