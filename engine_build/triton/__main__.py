"""Rewrite the committed rendering: python -m engine_build.triton.

The dimensions in it are those of the published models, nvidia/VideoITG-8B and VTimeLLM's of Vicuna
7B; the GPU is one with seven NVDECs (H100, H200). A build renders those of its own checkpoint and
machine. Profile `vllm` has no folder: its models are those of `cpu`, on a GPU of `torch`.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine_build.triton.layout import RepositoryLayout
from engine_build.triton.render import write_models
from groundserve.engines.profiles import Target
from groundserve.families import get_family
from groundserve.families.base import Family, ModelSpec
from groundserve.families.videoitg.plan import VideoITGSpec
from groundserve.families.vtimellm.plan import VTimeLLMSpec

REFERENCE_FAMILY = get_family("videoitg")

REFERENCE_MODEL = VideoITGSpec(
    image_size=384,
    side=27,
    vision_hidden_size=1152,
    vision_token_num=16_384,
    max_tokens=20_480,
    # "!", which training leaves behind as padding: see `Checkpoint.load_tokenizer`.
    pad_token_id=0,
)

LAYOUTS = {
    "cpu": RepositoryLayout(target=Target(profile="cpu", device="cpu", precision="fp32")),
    "torch": RepositoryLayout(target=Target(profile="torch", device="cpu", precision="fp32")),
    "torch-cuda": RepositoryLayout(target=Target(profile="torch", device="cuda", precision="bf16")),
    "gpu": RepositoryLayout(
        target=Target(profile="gpu", device="cuda", precision="bf16", library="tensorrt"),
        num_nvdec=7,
    ),
    "gpu-trtllm": RepositoryLayout(
        target=Target(profile="gpu-trtllm", device="cuda", precision="bf16", library="tensorrt"),
        num_nvdec=7,
    ),
}
"""Layout of the reference model, by the folder of its committed rendering."""


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """What a folder of the committed rendering is rendered for."""

    layout: RepositoryLayout
    family: Family[Any, Any] = REFERENCE_FAMILY
    model: ModelSpec = REFERENCE_MODEL


RENDERINGS = {
    **{name: Rendering(layout=layout) for name, layout in LAYOUTS.items()},
    **{
        f"vtimellm-{name}": Rendering(
            layout=LAYOUTS[name], family=get_family("vtimellm"), model=VTimeLLMSpec()
        )
        for name in ("cpu", "torch", "torch-cuda")
    },
}
"""Folder of the committed rendering -> what it is rendered for."""


def render_all(out_dir: Path) -> None:
    """Write one folder a rendering below `out_dir`, without engines; what they held is replaced."""
    for name, one in RENDERINGS.items():
        shutil.rmtree(out_dir / name, ignore_errors=True)
        write_models(one.layout, one.family, one.model, out_dir / name)


if __name__ == "__main__":
    render_all(Path(__file__).parents[2] / "triton_models")
