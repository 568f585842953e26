"""Frames to CLIP's pixels, as PyTorch computes them and as graphs do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from groundserve.families.clip import STD
from groundserve.families.vtimellm.checkpoint import Checkpoint
from groundserve.families.vtimellm.pixels import PixelValues
from groundserve.families.vtimellm.vision import VisionEncoder
from tests.media_assets.whole_file import decode_whole_file
from tests.support.reference import VTIMELLM

VIDEOS = json.loads((VTIMELLM / "cases.json").read_text("utf-8"))["videos"]
CHECKPOINTS = VTIMELLM / "checkpoints"
CHUNK = 10


def open_vision(antialias: str = "off") -> VisionEncoder:
    return Checkpoint.open(CHECKPOINTS, parts={"antialias": [antialias]}).load_vision()


def in_chunks(module: torch.nn.Module, frames: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([module(chunk) for chunk in frames.split(CHUNK)])


def assert_pixels_equal(found: Tensor, expected: Tensor, *, longest: int) -> None:
    """Check pixels of two programs, each rounded to float16, for one step of it between them.

    Beside the step, what float32 makes of a sum of 16 products whose weights add up to less than 3
    in magnitude, and of the place of a pixel in a row of `longest`: rounded in each of three
    operations, where a step of a pixel changes a value by less than 2. Means taken off, a pixel may
    be near 0, where float16 is finer than that.
    """
    step = torch.ldexp(torch.ones_like(expected), torch.frexp(expected)[1] - 11).clamp(min=2.0**-24)
    float32 = 2.0**-24 * (2 * 16 * 3 + 2 * 3 * longest) / min(STD)
    assert ((found - expected).abs() <= step + float32).all()


@pytest.mark.parametrize("key", ["bikes", "portrait_57"])
def test_the_switch_is_the_references_with_a_later_torchvision(clips, key):
    recorded = VIDEOS[key]
    path = clips.get(recorded["video"], VTIMELLM / "videos" / recorded["file"])
    first = torch.from_numpy(decode_whole_file(Path(path))[0].copy()).unsqueeze(0)
    expected = torch.tensor(recorded["features"]["antialias_on_first"])
    features = in_chunks(open_vision("on"), first)
    assert (features[0, 0, :8] - expected).abs().max() < 1e-4


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("sides", [(1, 1), (223, 225), (272, 640), (721, 90)])
def test_what_is_exported_resizes_as_the_reference_does(sides, antialias):
    generator = torch.Generator().manual_seed(sum(sides))
    frames = torch.randint(0, 256, (2, *sides, 3), dtype=torch.uint8, generator=generator)
    module = PixelValues(image_size=224, antialias=antialias)
    expected = module(frames)
    assert expected.shape == (2, 3, 224, 224)
    module.as_matmul = True
    assert_pixels_equal(module(frames), expected, longest=max(sides))
    module.as_neighbours = True
    assert_pixels_equal(module(frames), expected, longest=max(sides))


def test_what_graphs_leave_out_and_prepare_changes_no_feature():
    module = open_vision()
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (2, 90, 120, 3), dtype=torch.uint8, generator=generator)
    expected = in_chunks(module, frames)
    module.config._attn_implementation = "sdpa"
    module.prepare_export()
    module.leave_out_unread()
    # Of float16 pixels of which some are a step away.
    assert (in_chunks(module, frames) - expected).abs().max() < 2e-3 * expected.abs().max()
    module.pixel_values.as_matmul = module.pixel_values.as_neighbours = False
    assert (in_chunks(module, frames) - expected).abs().max() < 1e-5 * expected.abs().max()
