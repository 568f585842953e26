from __future__ import annotations

import numpy as np
import torch

from python_backend.arrays import concatenate, empty, to_host, to_torch


def test_one_part_is_not_copied():
    part = np.zeros(3)
    assert concatenate([part]) is part


def test_parts_of_one_home_stay_there():
    joined = concatenate([np.zeros((1, 2)), np.ones((2, 2))])
    assert isinstance(joined, np.ndarray)
    assert joined.tolist() == [[0, 0], [1, 1], [1, 1]]
    assert isinstance(concatenate([torch.zeros(1), torch.ones(1)]), torch.Tensor)


def test_parts_of_two_homes_join_where_the_tensor_is():
    joined = concatenate([np.zeros(1, np.float32), torch.ones(1)])
    assert isinstance(joined, torch.Tensor)
    assert joined.tolist() == [0, 1]


def test_empty_has_the_home_and_dtype_of_the_other():
    assert empty((2, 3), like=np.zeros(1, np.float16)).dtype == np.float16
    made = empty((2, 3), like=torch.zeros(1, dtype=torch.float16))
    assert isinstance(made, torch.Tensor)
    assert (made.shape, made.dtype) == ((2, 3), torch.float16)


def test_there_and_back_is_the_same_memory():
    array = np.arange(4)
    assert np.shares_memory(to_host(to_torch(array, torch.device("cpu"))), array)
