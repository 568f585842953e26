"""Frames that come in groups and go in chunks: the right ones, copied only where they must be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from python_backend.frame_buffer import FrameBuffer

HOMES = pytest.mark.parametrize("home", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])


def numbered(first: int, stop: int) -> np.ndarray:
    return np.arange(first, stop).reshape(-1, 1, 1, 1)


@HOMES
def test_chunks_of_groups_that_end_elsewhere(home):
    buffer = FrameBuffer()
    buffer.put(home(numbered(0, 3)))
    buffer.detach()
    buffer.put(home(numbered(3, 9)))
    # Two of the chunk's last are the next one's, too.
    frames = buffer.take(5, num_left=6)
    assert isinstance(frames, type(home(numbered(0, 1))))
    assert frames.ravel().tolist() == [0, 1, 2, 3, 4]
    assert buffer.take(4, num_left=2).ravel().tolist() == [3, 4, 5, 6]
    buffer.detach()
    buffer.put(home(numbered(9, 10)))
    assert buffer.take(3, num_left=0).ravel().tolist() == [7, 8, 9]


@HOMES
def test_a_chunk_in_one_group_is_no_copy(home):
    buffer = FrameBuffer()
    group = home(numbered(0, 6))
    buffer.put(group)
    taken = [buffer.take(4, num_left=2), buffer.take(2, num_left=0)]
    assert [frames.ravel().tolist() for frames in taken] == [[0, 1, 2, 3], [4, 5]]
    assert all(np.shares_memory(np.asarray(frames), np.asarray(group)) for frames in taken)


@HOMES
def test_what_is_left_of_a_group_does_not_hold_it(home):
    buffer = FrameBuffer()
    group = home(numbered(0, 6))
    buffer.put(group)
    buffer.take(4, num_left=2)
    buffer.detach()
    rest = buffer.take(2, num_left=0)
    assert rest.ravel().tolist() == [4, 5]
    assert not np.shares_memory(np.asarray(rest), np.asarray(group))


def test_groups_of_two_homes_join_where_the_gpu_is():
    """NVDEC decodes one, the CPU the next."""
    buffer = FrameBuffer()
    buffer.put(numbered(0, 2))
    buffer.put(torch.from_numpy(numbered(2, 4)))
    frames = buffer.take(4, num_left=0)
    assert isinstance(frames, torch.Tensor)
    assert frames.ravel().tolist() == [0, 1, 2, 3]
