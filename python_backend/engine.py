"""Open the stages that an engine directory's profile names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from groundserve.manifest import TOKENIZER_NAME, Manifest
from groundserve.media import MediaWorkers
from groundserve.prompts import QueryTokenizer
from python_backend.decode import FrameDecoder, PyAVDecoder
from python_backend.encode import OnnxRuntimeEncoder, TorchEncoder, VisionEncoder
from python_backend.ground import Grounder, OnnxRuntimeGrounder, TorchGrounder
from python_backend.meter import Meter

if TYPE_CHECKING:
    from groundserve.modeling.checkpoint import Checkpoint


@dataclass(frozen=True)
class EngineDirectory:
    """An engine directory whose manifest was read."""

    path: Path
    """The directory itself."""
    manifest: Manifest
    """Its manifest."""

    @classmethod
    def load(cls, path: str | Path, *, verify_files: bool = False) -> EngineDirectory:
        """Read the manifest.

        Args:
            path: The directory.
            verify_files: Also hash every file. A server does so once; its models do not repeat it.

        Raises:
            EngineMismatchError: The manifest or a file does not match.
        """
        directory = Path(path)
        manifest = Manifest.load(directory)
        if verify_files:
            manifest.verify_files(directory)
        return cls(directory, manifest)

    def open_decoder(self, workers: MediaWorkers, *, meter: Meter) -> FrameDecoder:
        """Open the decode stage on a pool of workers, whose deaths are counted."""
        return PyAVDecoder(workers, image_size=self.manifest.model.image_size, meter=meter)

    def open_encoder(self, *, num_threads: int) -> VisionEncoder:
        """Open the vision stage."""
        if self.manifest.stages.encoder == "torch":
            return TorchEncoder(self._checkpoint(num_threads).load_vision())
        return OnnxRuntimeEncoder(self.path / "vision_encoder.onnx", num_threads=num_threads)

    def open_grounder(self, *, num_threads: int) -> Grounder:
        """Open the grounding stage."""
        if self.manifest.stages.grounder == "torch":
            return TorchGrounder(self._checkpoint(num_threads).load_grounding())
        return OnnxRuntimeGrounder(self.path / "grounding.onnx", num_threads=num_threads)

    def open_tokenizer(self) -> QueryTokenizer:
        """Open the checkpoint's tokenizer."""
        return QueryTokenizer.from_file(
            self.path / TOKENIZER_NAME, pad_token_id=self.manifest.model.pad_token_id
        )

    def _checkpoint(self, num_threads: int) -> Checkpoint:
        import torch

        from groundserve.modeling.checkpoint import Checkpoint

        torch.set_num_threads(num_threads)
        tower = self.path / "vision_tower"
        return Checkpoint.open(
            self.path / "checkpoint", vision_tower=tower if tower.is_dir() else None
        )
