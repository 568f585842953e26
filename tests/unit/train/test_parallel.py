"""What a run asks of the processes around it, and activations that are computed again."""

import gc
import json
import socket
import weakref
from dataclasses import replace

import pytest
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from groundserve.errors import InvalidRequestError
from tests.unit.train.data.samples import question, write_video
from tests.unit.train.runs import make_config
from train import parallel
from train.config import ValidationConfig
from train.loop import train
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


def test_no_model_outlives_the_group_of_processes(tmp_path, monkeypatch):
    """The last holder of a gloo group joins its threads; DDP's reducer would never come back."""
    write_video(tmp_path / "a.mp4", num_frames=20)
    records = tmp_path / "records.json"
    records.write_text(json.dumps([question("a.mp4", frame_num=[1])]))
    config = make_config(
        tmp_path / "run",
        parallelism="ddp",
        auxiliary_weight=0.0,
        max_steps=1,
        validation=ValidationConfig(records=records, media_root=tmp_path, every_steps=1),
    )
    config = replace(config, data=replace(config.data, records=records, media_root=tmp_path))
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(found.getsockname()[1])}
    ranks = {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    for name, value in (place | ranks).items():
        monkeypatch.setenv(name, value)
    made, left = [], []

    class Watched(DistributedDataParallel):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.__dict__["cycle"] = self  # an exception's traceback would make one too
            made.extend((weakref.ref(self), weakref.ref(self.reducer)))

    def destroy(destroy_group=dist.destroy_process_group):
        left.extend(one() for one in made)
        destroy_group()

    monkeypatch.setattr(parallel, "DistributedDataParallel", Watched)
    monkeypatch.setattr(dist, "destroy_process_group", destroy)
    gc.disable()  # it may come by itself
    try:
        train(config)
    finally:
        gc.enable()
    assert left == [None, None]
