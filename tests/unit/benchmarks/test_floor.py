"""The arithmetic of an answer, counted by hand, and the peaks that make time of it."""

import pytest

from benchmarks._floor import net_flop
from groundserve.families.videoitg.checkpoint import Checkpoint
from tests.support.reference import REPOSITORY


@pytest.fixture(scope="module")
def checkpoint():
    return Checkpoint.open(REPOSITORY / "tests" / "fixtures" / "seeded")


@pytest.mark.parametrize(("all_layers", "layers"), [(False, 2), (True, 3)])
def test_vision_by_hand(checkpoint, all_layers, layers):
    # 3 layers, of which 2 are used; 64 wide, MLP 176, 16 x 16 patches of 14 x 14 x 3.
    weights = 4 * 64 * 64 + 2 * 64 * 176
    attention = 2 * 256 * 256 * 64
    a_frame = 2 * (layers * (256 * weights + attention) + 256 * 588 * 64)
    found = net_flop(checkpoint, num_frames=5, num_text_tokens=7, all_layers=all_layers)
    assert found.encode == 5 * a_frame


def test_grounding_by_hand(checkpoint):
    # 16,384 tokens for 64 frames: all 256 patches of each. 2 layers, 96 wide, MLP 256; 6 heads
    # share 2, so K and V are 32 wide.
    visual, tokens = 64 * 256, 64 * 256 + 7
    projector = visual * (64 * 96 + 96 * 96)
    layer = tokens * (2 * 96 * 96 + 2 * 96 * 32 + 3 * 96 * 256) + 2 * tokens**2 * 96
    found = net_flop(checkpoint, num_frames=64, num_text_tokens=7)
    assert found.ground == 2 * (projector + 2 * layer)
