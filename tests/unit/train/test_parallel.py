"""What a run asks of the processes around it, and activations that are computed again."""

import pytest

from groundserve.errors import InvalidRequestError
from train.parallel import open_processes


@pytest.mark.parametrize(
    ("parallelism", "world_size", "message"),
    [
        ("none", "2", 'parallelism "none" is for one process, WORLD_SIZE is 2; set'),
        ("ddp", None, 'parallelism "ddp" needs torchrun, which sets WORLD_SIZE; start it with'),
        ("fsdp2", None, 'parallelism "fsdp2" needs torchrun'),
    ],
)
def test_config_and_launcher_must_agree(monkeypatch, parallelism, world_size, message):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if world_size is not None:
        monkeypatch.setenv("WORLD_SIZE", world_size)
    with pytest.raises(InvalidRequestError, match=message), open_processes(parallelism):
        pass


def test_nodes_must_have_as_many_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "5")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    message = "WORLD_SIZE is 5 and LOCAL_WORLD_SIZE 2; give torchrun one --nproc-per-node"
    with pytest.raises(InvalidRequestError, match=message), open_processes("hsdp"):
        pass
