"""The files of both towers: what is read of them, stretched, left out, and refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.families.grounded_videollm.towers import read_clip, read_internvideo2
from groundserve.weights.torch_archive import read_torch_file
from tests.unit.families.grounded_videollm.checkpoints import opened
from tests.unit.families.grounded_videollm.recorded import FUNCTIONS

PARTS = opened("phi3.5").parts
CONFIG = opened("phi3.5").internvideo2.config


def values_of(tensor: Tensor, record: dict) -> list[float]:
    assert list(tensor.shape) == record["shape"]
    return tensor.flatten()[record["probe_index"]].tolist()


def test_positions_are_stretched_as_the_reference_does():
    on_disk = read_torch_file(PARTS.internvideo)["pos_embed"]
    before = FUNCTIONS["internvideo2_pos_embed_on_disk"]
    assert values_of(on_disk, before) == pytest.approx(before["probe_value"], rel=1e-6)
    found = opened("phi3.5").internvideo2.tensors["pos_embed"]
    after = FUNCTIONS["internvideo2_pos_embed_after_interpolation"]
    # Seven digits are recorded.
    assert values_of(found, after) == pytest.approx(after["probe_value"], rel=1e-6)
    traced = FUNCTIONS["internvideo2_pos_embed_patch37_channel5"]
    for steps, tensor, name in ((4, on_disk, "on_disk_4"), (8, found, "interpolated_8")):
        of_patch = tensor[0, 1:, 5].unflatten(0, (steps, 256))[:, 37]
        assert of_patch.tolist() == pytest.approx(traced[name], rel=1e-6)


@pytest.fixture
def changed(tmp_path):
    """Write a tower's file with some tensors left out and others put in, and open it."""

    def changed(part: str, *, without: str = "", **more: Tensor) -> object:
        source = PARTS.clip if part == "clip" else PARTS.internvideo
        tensors = read_torch_file(source)
        kept = {name: one for name, one in tensors.items() if not without or without not in name}
        assert not without or len(kept) < len(tensors)
        path = tmp_path / source.name
        torch.save(kept | more, path)
        if part == "clip":
            return read_clip(path, num_heads=4)
        return read_internvideo2(path, num_frames=8, num_heads=4)

    return changed


@pytest.mark.parametrize(
    ("part", "without", "kind", "message"),
    [
        ("clip", "encoder", UnsupportedError, r"at least two blocks encoder\.layers\.\*, got 0"),
        ("internvideo", "blocks.3.ls2", InvalidRequestError, r"blocks\.3 is not as blocks\.0"),
    ],
)
def test_a_file_that_is_cut_off_is_refused(changed, part, without, kind, message):
    with pytest.raises(kind, match=message):
        changed(part, without=without)


def heads_of(part, tmp_path, *, width: int, **said: object) -> int:
    """Return the number of heads of a tower of another width; its tensors are never filled."""
    shapes = {
        "clip": {
            "vision_model.embeddings.patch_embedding.weight": (width, 3, 14, 14),
            "vision_model.embeddings.position_embedding.weight": (577, width),
            **{
                f"vision_model.encoder.layers.{n}.mlp.fc1.weight": (2 * width, width)
                for n in range(2)
            },
        },
        "internvideo": {
            "patch_embed.proj.weight": (width, 3, 1, 14, 14),
            "pos_embed": (1, 257, width),
            "img_pos_embed": (1, 257, width),
            **{f"blocks.{n}.mlp.fc1.weight": (2 * width, width) for n in range(2)},
        },
    }[part]
    torch.save({name: torch.zeros(shape) for name, shape in shapes.items()}, tmp_path / "tower")
    if part == "clip":
        return read_clip(tmp_path / "tower", **said).config.num_attention_heads
    source = read_internvideo2(tmp_path / "tower", num_frames=8, **said)
    return source.config.num_attention_heads


@pytest.mark.parametrize(
    ("part", "width", "said", "heads"),
    [
        ("clip", 1024, {}, 16),
        ("clip", 40, {"num_heads": 5}, 5),
        ("clip", 40, {"described": {"num_attention_heads": 10, "hidden_size": 40}}, 10),
        # Of another tower than the file's.
        ("clip", 64, {"described": {"num_attention_heads": 4, "hidden_size": 32}}, 1),
        ("internvideo", 1408, {}, 16),
        ("internvideo", 88, {"num_heads": 4}, 4),
    ],
)
def test_heads_are_given_or_described_or_as_wide_as_published_ones(
    tmp_path, part, width, said, heads
):
    assert heads_of(part, tmp_path, width=width, **said) == heads
