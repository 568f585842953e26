"""Rewrite the committed rendering: python -m engine_build.triton.

The dimensions in it are those of nvidia/VideoITG-8B with SigLIP so400m/14 at 384 pixels; a build
renders those of its own checkpoint.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from engine_build.triton.render import MODEL_SPECS, render_repository
from groundserve.manifest import ModelSpec

REFERENCE_MODEL = ModelSpec(
    image_size=384,
    side=27,
    vision_hidden_size=1152,
    vision_token_num=16_384,
    max_tokens=20_480,
    pad_token_id=0,
)


def render_all(out_dir: Path) -> None:
    """Write one folder a profile below `out_dir`; what they held is replaced."""
    for profile in MODEL_SPECS:
        shutil.rmtree(out_dir / profile, ignore_errors=True)
        render_repository(profile, REFERENCE_MODEL, out_dir / profile)


if __name__ == "__main__":
    render_all(Path(__file__).parents[2] / "triton_models")
