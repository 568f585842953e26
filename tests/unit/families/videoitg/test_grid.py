import numpy as np
import pytest
import torch
import torch.nn.functional as F

from groundserve.errors import InvalidRequestError
from groundserve.families.videoitg.grid import grid_side, pooling_weights

# spec/videoitg.md 1.5, "Grid by T".
TABLE = {
    16384: {22: 27, 32: 22, 64: 16, 100: 12, 128: 11, 256: 8, 512: 5, 600: 5, 656: 4, 1024: 4},
    12480: {17: 27, 32: 19, 64: 13, 100: 11, 128: 9, 256: 6, 512: 4, 600: 4, 656: 4, 1024: 3},
    8192: {11: 27, 32: 16, 64: 11, 100: 9, 128: 8, 256: 5, 512: 4, 600: 3, 656: 3, 1024: 2},
}


@pytest.mark.parametrize("budget", TABLE)
def test_grid_side_gives_the_reference_table(budget):
    got = {t: grid_side(t, vision_token_num=budget, side=27) for t in TABLE[budget]}
    assert got == TABLE[budget]


def test_more_frames_than_tokens_are_refused():
    with pytest.raises(InvalidRequestError, match="16385 sampled frames exceed"):
        grid_side(16385, vision_token_num=16384, side=27)


@pytest.mark.parametrize("grid", [1, 4, 5, 16, 26, 27])
def test_pooling_equals_torchs_bilinear_resize(grid):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 27, 27, generator=generator, dtype=torch.float64)
    expected = F.interpolate(features, (grid, grid), mode="bilinear", align_corners=False)
    weights = torch.from_numpy(pooling_weights(grid, side=27)).double()
    got = torch.einsum("gy,ncyx,hx->ncgh", weights, features, weights)
    # float32 source coordinates, as torch's own for float32: up to 27, rounded in 4 operations, on
    # both axes; a result moves by a coordinate's error times the difference of two neighbours.
    error = 2 * 4 * 27 * 2**-24 * 2 * features.abs().max().item()
    torch.testing.assert_close(got, expected, atol=error, rtol=0)


def test_pooling_reads_the_positions_of_the_reference():
    used = np.flatnonzero(pooling_weights(5, side=27).sum(axis=0) > 1e-6)
    assert used.tolist() == [2, 3, 7, 8, 13, 18, 19, 23, 24]
