"""Write the engines of one checkpoint, as its head and the profile want them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from engine_build.decoder_export import export_decoder, export_front, write_token_embeddings
from engine_build.families import GpuFamily
from engine_build.onnx_export import export_grounding, export_vision_encoder
from engine_build.onnx_int8 import quantize_vision_encoder
from engine_build.tensorrt_engines import PlanBuilder
from engine_build.trtllm import build_engine
from engine_build.vllm_export import export_for_vllm
from groundserve.engines.manifest import (
    CHECKPOINT_NAME,
    DECODER_NAME,
    EMBEDDINGS_NAME,
    FRONT_ONNX_NAME,
    GROUNDING_ONNX_NAME,
    TOKEN_EMBEDDINGS_NAME,
    TRTLLM_NAME,
    VISION_ONNX_NAME,
)
from groundserve.engines.profiles import Target
from groundserve.engines.tensorrt_library import TensorRTTarget
from groundserve.errors import UnsupportedError
from groundserve.families import get_text_family
from groundserve.families.base import Family, FamilyCheckpoint, ModelSpec, TextCheckpoint
from groundserve.families.contract import check_features
from groundserve.families.default_video import default_plan, short_plan
from groundserve.families.plans import VideoPlan
from groundserve.families.vision_inputs import VisionInputs, take_units
from groundserve.weights.tensors import torch_dtype, weight_files


@dataclass(frozen=True, kw_only=True)
class EngineWriter:
    """What engines are written from and for."""

    family: Family[Any, Any]
    checkpoint: FamilyCheckpoint | TextCheckpoint
    gpu_family: GpuFamily | None
    """What the family has for compiled engines; None where the profile has none."""
    target: Target
    tensorrt: TensorRTTarget | None
    """Library and architectures of TensorRT plans; None where the profile has none."""
    timing_cache: Path | None
    on_step: Callable[[str], None]
    """Called with the name of each step as it begins."""

    def write(self, directory: Path, model: ModelSpec) -> None:
        """Write every engine of the profile."""
        inputs = VisionInputs.of(self.family, model)
        stages = self.target.stages
        if stages.encoder == "onnxruntime":
            self._export_vision(directory, inputs, model)
        if stages.grounder == "onnxruntime" and self.family.head == "frames":
            self._export_frames_head(cast(FamilyCheckpoint, self.checkpoint), directory, model)
        elif stages.grounder in ("onnxruntime", "vllm"):
            self._export_text_head(cast(TextCheckpoint, self.checkpoint), directory, model)
        if "torch" in stages.engines:
            self.on_step("copying the checkpoint")
            self._copy(directory)
        if self.gpu_family is not None:
            checkpoint = cast(FamilyCheckpoint, self.checkpoint)
            self._compile(self.gpu_family, checkpoint, directory, inputs, model)

    def _export_vision(self, directory: Path, inputs: VisionInputs, model: ModelSpec) -> None:
        self.on_step("exporting the vision encoder")
        vision = self.checkpoint.load_vision()
        # Before the exporter, whose errors are of its graph.
        example = _example_unit(inputs, short_plan(self.family, model, 1))
        with torch.inference_mode():
            check_features(self.family, model, vision(*example).numpy(), num_units=1)
        export_vision_encoder(vision, directory / VISION_ONNX_NAME, inputs)
        if self.target.precision == "int8":
            quantize_vision_encoder(directory / VISION_ONNX_NAME)

    def _export_frames_head(
        self, checkpoint: FamilyCheckpoint, directory: Path, model: ModelSpec
    ) -> None:
        self.on_step("exporting the grounding model")
        grounding = checkpoint.load_grounding()
        export_grounding(
            grounding, directory / GROUNDING_ONNX_NAME, feature_width=model.feature_width
        )

    def _export_text_head(
        self, checkpoint: TextCheckpoint, directory: Path, model: ModelSpec
    ) -> None:
        self.on_step("exporting the decoder")
        own_positions = get_text_family(self.family.name).own_positions
        if self.target.stages.grounder == "vllm":
            if own_positions:
                raise UnsupportedError(
                    f"{self.family.name} says where each position is, which vLLM is not told; use "
                    "profile cpu or torch"
                )
            decoder = checkpoint.load_decoder(dtype=torch_dtype(self.target.precision))
            export_for_vllm(decoder, directory / DECODER_NAME)
        else:
            decoder = checkpoint.load_decoder()
            export_decoder(
                decoder,
                directory / DECODER_NAME,
                precision=self.target.precision,
                own_positions=own_positions,
            )
        write_token_embeddings(decoder.get_input_embeddings(), directory / TOKEN_EMBEDDINGS_NAME)
        del decoder
        if self.target.stages.encoder == "onnxruntime":
            self._export_front(checkpoint, directory, model)

    def _export_front(self, checkpoint: TextCheckpoint, directory: Path, model: ModelSpec) -> None:
        self.on_step("exporting what stands before the decoder")
        export_front(
            checkpoint.load_front(),
            directory / FRONT_ONNX_NAME,
            feature_width=model.feature_width,
            inputs=get_text_family(self.family.name).front_inputs(model),
        )

    def _copy(self, directory: Path) -> None:
        if self.family.head == "text":
            (directory / CHECKPOINT_NAME).mkdir()
            cast(TextCheckpoint, self.checkpoint).copy_to(directory / CHECKPOINT_NAME)
        else:
            _copy_folders(cast(FamilyCheckpoint, self.checkpoint).folders, directory)

    def _compile(
        self,
        gpu_family: GpuFamily,
        checkpoint: FamilyCheckpoint,
        directory: Path,
        inputs: VisionInputs,
        model: ModelSpec,
    ) -> None:
        precision, grounder = self.target.precision, self.target.stages.grounder
        if self.tensorrt is not None:
            plans = PlanBuilder(
                family=gpu_family,
                checkpoint=checkpoint,
                directory=directory,
                model=model,
                inputs=inputs,
                usual=default_plan(self.family, model),
                target=self.tensorrt,
                precision=precision,
                timing_cache=self.timing_cache,
            )
            self.on_step("building the vision encoder's plan")
            plans.build_vision_plan()
            if grounder == "tensorrt":
                self.on_step("building the grounding plan")
                plans.build_grounding_plan()
        if grounder == "tensorrt_llm":
            self.on_step("building the TensorRT-LLM engine")
            build_engine(
                checkpoint,
                directory / TRTLLM_NAME,
                model=model,
                precision=precision,
                timing_cache=self.timing_cache,
            )
        self.on_step("writing the embeddings")
        gpu_family.write_embeddings(checkpoint, directory / EMBEDDINGS_NAME, precision=precision)


def _example_unit(inputs: VisionInputs, plan: VideoPlan) -> list[torch.Tensor]:
    """Return black frames of one unit and the plan's inputs, as the vision stage takes them."""
    of_plan = take_units(inputs.of_plan(plan), slice(1))
    return [
        *(torch.zeros((1, *shape), dtype=torch.uint8) for shape in inputs.unit_shapes(plan.index)),
        *(torch.from_numpy(one) for one in of_plan),
    ]


def _copy_folders(folders: dict[str, Path], directory: Path) -> None:
    for name, source in folders.items():
        (directory / name).mkdir()
        others = [*source.glob("*.json"), *source.glob("*.txt")]
        for file in [*weight_files(source), *others]:
            shutil.copyfile(file, directory / name / file.name)
