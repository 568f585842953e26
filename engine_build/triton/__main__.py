"""Rewrite the committed rendering: python -m engine_build.triton.

The dimensions in it are those of nvidia/VideoITG-8B, the GPU is one with seven NVDECs (H100, H200);
a build renders those of its own checkpoint and machine.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from engine_build.triton.layout import RepositoryLayout
from engine_build.triton.render import write_model
from engine_build.triton.specs import model_specs
from groundserve.families import get_frames_family
from groundserve.families.videoitg.spec import VideoITGSpec
from groundserve.profiles import Target

REFERENCE_FAMILY = get_frames_family("videoitg")

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
    "gpu-trt": RepositoryLayout(
        target=Target(profile="gpu-trt", device="cuda", precision="bf16", library="tensorrt"),
        num_nvdec=7,
    ),
}
"""Folder of the committed rendering -> what it is rendered for."""


def render_all(out_dir: Path) -> None:
    """Write one folder a layout below `out_dir`, without engines; what they held is replaced."""
    for name, layout in LAYOUTS.items():
        shutil.rmtree(out_dir / name, ignore_errors=True)
        for spec in model_specs(layout, REFERENCE_FAMILY, REFERENCE_MODEL):
            write_model(spec, out_dir / name)


if __name__ == "__main__":
    render_all(Path(__file__).parents[2] / "triton_models")
