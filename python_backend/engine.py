"""Open the stages that an engine directory's profile names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from groundserve.engines.manifest import (
    CHECKPOINT_NAME,
    DECODER_GRAPH_NAME,
    DECODER_NAME,
    EMBEDDINGS_NAME,
    FRONT_ONNX_NAME,
    GROUNDING_ONNX_NAME,
    GROUNDING_PLAN_NAME,
    PROMPT_LIMIT_KEY,
    TOKEN_EMBEDDINGS_NAME,
    TOKENIZER_NAME,
    TRTLLM_NAME,
    VISION_ONNX_NAME,
    VISION_PLAN_NAME,
    Manifest,
)
from groundserve.engines.tensorrt_library import TensorRTTarget
from groundserve.errors import UnsupportedError
from groundserve.families.base import (
    AnswerTokenizer,
    EngineFamily,
    FamilyCheckpoint,
    QueryTokenizer,
    TextCheckpoint,
)
from groundserve.families.vision_inputs import VisionInputs
from groundserve.media import MediaWorkers
from python_backend.answers import Room
from python_backend.checkpoint import torch_stages
from python_backend.decode import DaliDecoder, FrameDecoder, PyAVDecoder
from python_backend.encode import OnnxRuntimeEncoder, VisionEncoder
from python_backend.generate import Front, Generator, OnnxRuntimeDecoder, OnnxRuntimeFront
from python_backend.ground import Grounder, OnnxRuntimeGrounder
from python_backend.meter import Meter

if TYPE_CHECKING:
    from python_backend.ground import TokenScorer
    from python_backend.tensorrt_runtime import PlanRunner

ENGINE_ID_VARIABLE = "GROUNDSERVE_ENGINE_ID"
"""Identity of the engines that a server began with; its models load no others."""


@dataclass(frozen=True)
class EngineDirectory:
    """An engine directory whose manifest was read.

    What is opened is of that manifest: a build may replace the directory at any time, so each
    `open_` reads the manifest again afterwards and raises EngineMismatchError where it changed.
    PyTorch's threads are those of the whole process.
    """

    path: Path
    manifest: Manifest

    @classmethod
    def load(
        cls, path: str | Path, *, verify_files: bool = False, engine_id: str | None = None
    ) -> EngineDirectory:
        """Read the manifest, of the identity `engine_id` where one is given.

        A server verifies all files once; its models do not repeat it.
        """
        directory = Path(path)
        manifest = (
            Manifest.load(directory)
            if engine_id is None
            else Manifest.load_again(directory, engine_id)
        )
        VisionInputs.of(manifest.seam, manifest.model)  # refused before an engine is read
        if verify_files:
            manifest.verify_files(directory)
        return cls(directory, manifest)

    @property
    def room(self) -> Room:
        """How long a sequence may be."""
        max_tokens = self.manifest.model.max_tokens
        if self.manifest.stages.grounder != "vllm":
            return Room(max_tokens=max_tokens)
        config = json.loads((self.path / DECODER_NAME / "config.json").read_text("utf-8"))
        num_positions = config["max_position_embeddings"]
        return Room(
            max_tokens=min(num_positions, max_tokens or num_positions),
            max_prompt_tokens=config[PROMPT_LIMIT_KEY],
        )

    def open_decoder(
        self, workers: MediaWorkers, *, meter: Meter, num_threads: int
    ) -> FrameDecoder:
        """Open the decode stage; `num_threads` are those of DALI."""
        streams = VisionInputs.of(self.manifest.seam, self.manifest.model).streams
        pyav = PyAVDecoder(workers, streams=streams, meter=meter)
        if self.manifest.decoder == "pyav":
            return pyav
        (stream,) = streams
        return DaliDecoder(
            image_size=stream.size,
            resize=stream.resize,
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
                    encoder: VisionEncoder = torch_stages().open_encoder(
                        self._open_checkpoint(), self.manifest, num_threads=num_threads
                    )
                    return encoder
                case "tensorrt":
                    from python_backend.encode.tensorrt import TensorRTEncoder

                    plan = self._open_plan(VISION_PLAN_NAME)
                    inputs = VisionInputs.of(self.manifest.seam, self.manifest.model)
                    return TensorRTEncoder(plan, inputs.names)
            return OnnxRuntimeEncoder(self.path / VISION_ONNX_NAME, num_threads=num_threads)

    def open_grounder(self, *, num_threads: int) -> Grounder:
        """Open the grounding stage; UnsupportedError where the family answers in text."""
        frames_family = self.manifest.frames_seam
        with self._unchanged():
            match self.manifest.stages.grounder:
                case "torch":
                    grounder: Grounder = torch_stages().open_grounder(
                        self._open_checkpoint(), self.manifest, num_threads=num_threads
                    )
                    return grounder
                case "onnxruntime":
                    path = self.path / GROUNDING_ONNX_NAME
                    return OnnxRuntimeGrounder(path, num_threads=num_threads)
            # The other profiles' engines take embeddings; projector and table stand before them.
            # They are built of families alone that have a front: see `engine_build.families`.
            from python_backend.ground.engine import EngineGrounder

            scorer = self._open_scorer()
            family = cast(EngineFamily[Any, Any], frames_family)
            front = family.read_front(self.path / EMBEDDINGS_NAME, device=self.manifest.device)
            return EngineGrounder(front, scorer)

    def open_generator(self, *, num_threads: int) -> Generator:
        """Open the generation stage; UnsupportedError where the family scores frames."""
        family = self.manifest.text_seam
        with self._unchanged():
            match self.manifest.stages.grounder:
                case "torch":
                    generator: Generator = torch_stages().open_generator(
                        self._open_checkpoint(), self.manifest, num_threads=num_threads
                    )
                    return generator
                case "onnxruntime":
                    decoder = OnnxRuntimeDecoder(
                        self.path / DECODER_NAME / DECODER_GRAPH_NAME, num_threads=num_threads
                    )
                    return Generator(front=self._open_front(num_threads), decoder=decoder)
                case "vllm":
                    from python_backend.generate.vllm import open_vllm_generator

                    return open_vllm_generator(self.path, self._open_front(num_threads))
        raise UnsupportedError(
            f"the profile {self.manifest.profile} has no decoder that answers in text, which the "
            f"family {family.name} does"
        )

    def open_tokenizer(self) -> QueryTokenizer:
        """Open the tokenizer of a family that scores frames."""
        family = self.manifest.frames_seam
        with self._unchanged():
            return family.open_tokenizer(self.path / TOKENIZER_NAME, self.manifest.model)

    def open_answer_tokenizer(self) -> AnswerTokenizer:
        """Open the tokenizer of a family that answers in text."""
        family = self.manifest.text_seam
        with self._unchanged():
            return family.open_tokenizer(self.path / TOKENIZER_NAME, self.manifest.model)

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Check after files were opened that they are still those of the manifest."""
        yield
        Manifest.load_again(self.path, self.manifest.engine_id)

    def _open_front(self, num_threads: int) -> Front:
        """Open what makes embeddings, where the decoder itself is not in PyTorch."""
        table = self.path / TOKEN_EMBEDDINGS_NAME
        if self.manifest.stages.encoder == "torch":
            front: Front = torch_stages().open_front(self._open_checkpoint(), table, self.manifest)
            return front
        return OnnxRuntimeFront(self.path / FRONT_ONNX_NAME, table, num_threads=num_threads)

    def _open_scorer(self) -> TokenScorer:
        if self.manifest.stages.grounder == "tensorrt":
            from python_backend.ground.tensorrt import TensorRTTokenScorer

            return TensorRTTokenScorer(self._open_plan(GROUNDING_PLAN_NAME))
        from python_backend.ground.tensorrt_llm import TensorRTLLMTokenScorer

        return TensorRTLLMTokenScorer(self.path / TRTLLM_NAME)

    def _open_plan(self, name: str) -> PlanRunner:
        from python_backend.tensorrt_runtime import PlanRunner

        target = TensorRTTarget.from_dict(self.manifest.builder["tensorrt"])
        return PlanRunner(self.path / name, target)

    def _open_checkpoint(self) -> FamilyCheckpoint | TextCheckpoint:
        if self.manifest.head == "text":
            return self.manifest.text_seam.open_checkpoint(self.path / CHECKPOINT_NAME)
        # As `engine_build` lays it out; without the folder the checkpoint's own copy is meant.
        tower = self.path / "vision_tower"
        return self.manifest.frames_seam.open_checkpoint(
            self.path / CHECKPOINT_NAME, vision_tower=tower if tower.is_dir() else None
        )
