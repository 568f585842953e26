"""Several processes that train one model: who they are, and what they share.

torchrun starts them and says who is who in the environment. Each averages its loss over its own
batch, and gradients are averaged over processes.
"""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from groundserve.errors import GroundserveError, InvalidRequestError
from train.config import Parallelism, StageConfig
from train.examples import Example
from train.families.base import Initial, Losses, TrainedModel

_Value = TypeVar("_Value")

# The others wait in a collective while one writes its part of tens of gigabytes, or reads a video.
_COLLECTIVE_TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The processes of a run, seen from one of them."""

    rank: int
    world_size: int
    local_world_size: int
    device: torch.device
    grouped: bool
    """Whether torchrun started them, be it one; else this one is on its own."""

    @property
    def is_first(self) -> bool:
        """Whether this one writes files and speaks."""
        return self.rank == 0

    def gather(self, value: _Value) -> list[_Value]:
        """Return every process's value, in the order of ranks."""
        if not self.grouped:
            return [value]
        values: list[_Value | None] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value] # filled

    def on_first(self, function: Callable[[], _Value]) -> _Value:
        """Call a function in the first process; all return its value or raise its error.

        Errors of ours and of files are meant: with another, the others wait to be ended.
        """
        outcome: list[_Value | GroundserveError | OSError | None] = [None]
        if self.is_first:
            try:
                outcome[0] = function()
            except (GroundserveError, OSError) as error:
                outcome[0] = error
        if self.grouped:
            dist.broadcast_object_list(outcome, src=0)
        if isinstance(outcome[0], (GroundserveError, OSError)):
            raise outcome[0]
        return outcome[0]  # type: ignore[return-value] # the function's


@contextmanager
def open_processes(parallelism: Parallelism) -> Iterator[Processes]:
    """Join the processes that torchrun started, or be the only one.

    Raises InvalidRequestError where config and torchrun do not agree about how many there are.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local_rank = (int(os.environ.get(name, "0")) for name in ("RANK", "LOCAL_RANK"))
    grouped = "WORLD_SIZE" in os.environ and parallelism != "none"
    if parallelism == "none" and world_size > 1:
        raise InvalidRequestError(
            f'parallelism "none" is for one process, WORLD_SIZE is {world_size}; '
            'set parallelism to "ddp", "fsdp2" or "hsdp", or start it without torchrun'
        )
    if parallelism != "none" and not grouped:
        raise InvalidRequestError(
            f'parallelism "{parallelism}" needs torchrun, which sets WORLD_SIZE; start it with: '
            "torchrun --nproc-per-node N -m groundserve.cli.main train ..."
        )
    local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if world_size % local_world_size:
        raise InvalidRequestError(
            f"every node must have as many processes, WORLD_SIZE is {world_size} and "
            f"LOCAL_WORLD_SIZE {local_world_size}; give torchrun one --nproc-per-node"
        )
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    if grouped:
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=_COLLECTIVE_TIMEOUT)
    yield Processes(
        rank=rank,
        world_size=world_size,
        local_world_size=local_world_size,
        device=device,
        grouped=grouped,
    )
    # Not after an error: other processes may be in a collective that this would wait for.
    if grouped:
        # Whoever holds the group last joins its threads. DDP's reducer does so with Python's lock
        # held, for which such a thread waits to free a tensor: the process would never end (seen
        # with torch 2.13). So models go first, also those that only a cycle still holds.
        gc.collect()
        dist.destroy_process_group()


class ParallelModel:
    """What a stage starts from, placed on this process's device, as its share of the whole.

    The model has float32 weights, the same in all processes, and is changed in place. The frozen
    vision stage is whole in each process.
    """

    def __init__(self, initial: Initial, config: StageConfig, processes: Processes) -> None:
        bf16 = config.precision == "bf16"
        dtype = torch.bfloat16 if bf16 else torch.float32
        initial.vision.to(processes.device, dtype).eval().requires_grad_(False)
        # Materialised scores of all positions of a frame would be the largest tensor of a step.
        vision_config: Any = initial.vision.config
        vision_config._attn_implementation = "sdpa"
        trunk = initial.model.train()
        if config.gradient_checkpointing:
            _recompute_layers(trunk.decoder)
        self._trunk = trunk
        self._module: torch.nn.Module = trunk
        mesh = _mesh(config.parallelism, processes)
        if mesh is not None:
            policy = MixedPrecisionPolicy()
            if bf16:
                policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
            for module in trunk.float32_parts():
                fully_shard(module, mesh=mesh)
            for module in (*trunk.decoder.layers, trunk):
                fully_shard(module, mesh=mesh, mp_policy=policy)
        else:
            trunk.to(processes.device)
        if config.parallelism == "ddp":
            with warnings.catch_warnings():
                # torch 2.13 has another name for it, which 2.10 has not.
                warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")
                # Its buffers are rotary frequencies, the same everywhere.
                self._module = DistributedDataParallel(
                    trunk, gradient_as_bucket_view=True, broadcast_buffers=False
                )
        self._autocast = torch.autocast(
            processes.device.type,
            dtype=torch.bfloat16,
            enabled=bf16 and mesh is None,  # its policy casts the weights already
        )

    def __call__(self, examples: Sequence[Example], features: Sequence[Tensor]) -> Losses:
        """Compute the losses of a batch; all processes must, as often as the others."""
        with self._autocast:
            losses: Losses = self._module(examples, features)
        return losses

    @contextmanager
    def gradients(self, *, average: bool) -> Iterator[None]:
        """Let passes inside add to the gradients; the last of a step averages over processes."""
        if isinstance(self._module, FSDPModule):
            # Shards of a node are summed in every pass: put off to the last one, every process
            # would keep whole gradients until then (`set_requires_gradient_sync`). What nodes have
            # to add to one another are shards, and waits.
            self._module.set_requires_all_reduce(average)
        if average or not isinstance(self._module, DistributedDataParallel):
            yield
        else:
            with self._module.no_sync():
                yield

    @contextmanager
    def evaluation(self) -> Iterator[TrainedModel]:
        """Lend the model for scoring; every process must call it as often as the others."""
        self._trunk.eval()
        with torch.no_grad(), self._autocast:
            yield self._trunk
        if isinstance(self._trunk, FSDPModule):
            # Without a backward pass its own parameters stay gathered, until something such as
            # `state_dict` shards them in one process alone; then the next pass waits for ever.
            self._trunk.reshard()
        self._trunk.train()


def _mesh(parallelism: Parallelism, processes: Processes) -> DeviceMesh | None:
    kind, size = processes.device.type, processes.world_size
    if parallelism == "fsdp2":
        return init_device_mesh(kind, (size,), mesh_dim_names=("shard",))
    if parallelism == "hsdp":
        per_node = processes.local_world_size
        sizes = (size // per_node, per_node)
        return init_device_mesh(kind, sizes, mesh_dim_names=("replicate", "shard"))
    return None


def _recompute_layers(decoder: Any) -> None:
    """Keep the layers' inputs only, and compute each layer again in the backward pass."""
    # Named so since transformers 5; the older name warns there.
    enable = getattr(decoder, "activation_checkpointing_enable", None)
    (enable or decoder.gradient_checkpointing_enable)({"use_reentrant": False})
