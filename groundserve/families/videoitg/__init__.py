"""VideoITG: SigLIP tower, projector, Qwen2 with full attention, one relevance logit a frame."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from groundserve import extras
from groundserve.families.base import EngineFamily
from groundserve.families.plans import FrameStream, PlanInput
from groundserve.families.videoitg.plan import POOLING_INPUT, VideoITGSpec, plan_video
from groundserve.families.videoitg.prompt import QueryTokenizer
from groundserve.options import Head, ScoreOptions

if TYPE_CHECKING:
    from torch import nn

    from groundserve.families.videoitg.checkpoint import Checkpoint


class VideoITG:
    """A family of head "frames", whose engines are compiled for GPUs, too."""

    name = "videoitg"
    head: Head = "frames"
    spec_type = VideoITGSpec
    plan = staticmethod(plan_video)

    def streams(self, spec: VideoITGSpec) -> tuple[FrameStream, ...]:
        """Return PIXELS: every frame, resized to a square."""
        return (FrameStream(name="PIXELS", size=spec.image_size),)

    def plan_inputs(self, spec: VideoITGSpec) -> tuple[PlanInput, ...]:
        """Return POOL (g, s): the weights that pool a frame's patches to the token grid."""
        side = spec.side
        return (PlanInput(name=POOLING_INPUT, dims=(-1, side), max_dims=(side, side)),)

    def open_tokenizer(self, path: Path, spec: VideoITGSpec) -> QueryTokenizer:
        """Open the tokenizer of Qwen2."""
        return QueryTokenizer.from_file(path, pad_token_id=spec.pad_token_id)

    def read_front(self, path: Path, *, device: str) -> tuple[nn.Sequential, nn.Embedding]:
        """Read what `write_embeddings` wrote."""
        from groundserve.families.videoitg.decoder import read_embeddings

        return read_embeddings(path, device=device)

    def recognises(self, raw_config: Mapping[str, Any]) -> bool:
        """Tell whether a config.json is of the reference, of whichever of its stages."""
        return "mm_vision_tower" in raw_config or str(raw_config.get("model_type")).lower() == (
            "eagle_qweng"
        )

    def open_checkpoint(
        self, path: str | Path, *, vision_tower: str | Path | None = None
    ) -> Checkpoint:
        """Open a local directory or a hub id; imports PyTorch."""
        module = extras.load("groundserve.families.videoitg.checkpoint", "build")
        opened: Checkpoint = module.Checkpoint.open(path, vision_tower=vision_tower)
        return opened

    def describe(self, facts: Mapping[str, int]) -> str:
        """Say what each frame becomes."""
        return f"{facts['grid']} x {facts['grid']} tokens each"


FAMILY: EngineFamily[VideoITGSpec, ScoreOptions] = VideoITG()
