"""Open the stages that an engine directory's profile names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from groundserve.errors import MissingExtraError
from groundserve.families.videoitg.prompt import QueryTokenizer
from groundserve.manifest import (
    EMBEDDINGS_NAME,
    GROUNDING_ONNX_NAME,
    GROUNDING_PLAN_NAME,
    TOKENIZER_NAME,
    VISION_ONNX_NAME,
    VISION_PLAN_NAME,
    Manifest,
)
from groundserve.media import MediaWorkers
from groundserve.tensorrt_library import TensorRTTarget
from python_backend.decode import DaliDecoder, FrameDecoder, PyAVDecoder
from python_backend.encode import (
    OnnxRuntimeEncoder,
    TensorRTEncoder,
    TorchEncoder,
    VisionEncoder,
    VisionInputs,
)
from python_backend.ground import (
    EngineGrounder,
    Grounder,
    OnnxRuntimeGrounder,
    TensorRTLLMTokenScorer,
    TensorRTTokenScorer,
    TokenScorer,
    TorchGrounder,
)
from python_backend.meter import Meter
from python_backend.tensorrt_runtime import PlanRunner

if TYPE_CHECKING:
    import torch

    from groundserve.families.videoitg.checkpoint import Checkpoint


ENGINE_ID_VARIABLE = "GROUNDSERVE_ENGINE_ID"
"""Identity of the engines that a server began with; its models load no others."""


@dataclass(frozen=True)
class EngineDirectory:
    """An engine directory whose manifest was read.

    What is opened is of that manifest: a build may replace the directory at any time, so each
    `open_` reads the manifest again afterwards and raises EngineMismatchError where it changed.
    """

    path: Path
    """The directory itself."""
    manifest: Manifest
    """Its manifest."""

    @classmethod
    def load(
        cls, path: str | Path, *, verify_files: bool = False, engine_id: str | None = None
    ) -> EngineDirectory:
        """Read the manifest.

        Args:
            path: The directory.
            verify_files: Also hash every file. A server does so once; its models do not repeat it.
            engine_id: Identity that it must have; any where None.

        Raises:
            EngineMismatchError: The manifest or a file does not match.
            UnsupportedError: The family takes its frames in a way that is not served.
        """
        directory = Path(path)
        manifest = (
            Manifest.load(directory)
            if engine_id is None
            else Manifest.load_again(directory, engine_id)
        )
        VisionInputs.of(manifest)  # refused before an engine is read
        if verify_files:
            manifest.verify_files(directory)
        return cls(directory, manifest)

    def open_decoder(
        self, workers: MediaWorkers, *, meter: Meter, num_threads: int
    ) -> FrameDecoder:
        """Open the decode stage on a pool of workers, whose deaths are counted.

        Args:
            workers: Processes in which FFmpeg decodes.
            meter: Where work is counted.
            num_threads: Segments that DALI decodes side by side.
        """
        image_size = self.manifest.model.image_size
        pyav = PyAVDecoder(workers, image_size=image_size, meter=meter)
        if self.manifest.stages.decoder == "pyav":
            return pyav
        return DaliDecoder(
            image_size=image_size,
            device="mixed",
            num_threads=num_threads,
            fallback=pyav,
            max_frame_pixels=workers.limits.max_frame_pixels,
        )

    def open_encoder(self, *, num_threads: int) -> VisionEncoder:
        """Open the vision stage."""
        with self._unchanged():
            match self.manifest.stages.encoder:
                case "torch":
                    device = self.manifest.device
                    checkpoint = self._checkpoint(num_threads)
                    model = checkpoint.load_vision(dtype=self._dtype, device=device)
                    return TorchEncoder(model, device=device)
                case "tensorrt":
                    names = VisionInputs.of(self.manifest).names
                    return TensorRTEncoder(self._open_plan(VISION_PLAN_NAME), names)
            return OnnxRuntimeEncoder(self.path / VISION_ONNX_NAME, num_threads=num_threads)

    def open_grounder(self, *, num_threads: int) -> Grounder:
        """Open the grounding stage."""
        scorer: TokenScorer
        device = self.manifest.device
        with self._unchanged():
            match self.manifest.stages.grounder:
                case "torch":
                    checkpoint = self._checkpoint(num_threads)
                    model = checkpoint.load_grounding(dtype=self._dtype, device=device)
                    return TorchGrounder(model, device=device)
                case "onnxruntime":
                    path = self.path / GROUNDING_ONNX_NAME
                    return OnnxRuntimeGrounder(path, num_threads=num_threads)
                case "tensorrt":
                    scorer = TensorRTTokenScorer(self._open_plan(GROUNDING_PLAN_NAME))
                case "tensorrt_llm":
                    scorer = TensorRTLLMTokenScorer(self.path / "trtllm")
            # Both scorers take embeddings; projector and table stand before them.
            front = self.manifest.seam.read_front(self.path / EMBEDDINGS_NAME, device=device)
            return EngineGrounder(front, scorer)

    def open_tokenizer(self) -> QueryTokenizer:
        """Open the checkpoint's tokenizer."""
        with self._unchanged():
            return QueryTokenizer.from_file(
                self.path / TOKENIZER_NAME, pad_token_id=self.manifest.model.pad_token_id
            )

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Check after files were opened that they are still those of the manifest."""
        yield
        Manifest.load_again(self.path, self.manifest.engine_id)

    @property
    def _dtype(self) -> torch.dtype:
        from groundserve.tensors import torch_dtype

        return torch_dtype(self.manifest.precision)

    def _open_plan(self, name: str) -> PlanRunner:
        target = TensorRTTarget.from_dict(self.manifest.builder["tensorrt"])
        return PlanRunner(self.path / name, target)

    def _checkpoint(self, num_threads: int) -> Checkpoint:
        try:
            import torch

            from groundserve.families.videoitg.checkpoint import Checkpoint
        except ImportError as error:
            raise MissingExtraError("build", error.name or "torch") from error

        # For the whole process: PyTorch knows no threads of a model alone.
        torch.set_num_threads(num_threads)
        # As `engine_build` lays it out; without the folder the checkpoint's own copy is meant.
        tower = self.path / "vision_tower"
        return Checkpoint.open(
            self.path / "checkpoint", vision_tower=tower if tower.is_dir() else None
        )
