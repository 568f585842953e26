"""How long a process stands in collectives: the sharing itself, and the wait for the slowest.

The slowest process waits for nobody, so the least time of all is what the sharing costs, and what
another has above it is its wait. A CPU stands in the call; on a GPU, events are put around it and
read when the step has ended. There a collective runs beside what is computed, so its time is not
all lost.
"""

# Annotations are not put off here: DDP reads those of its hook.
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel


class CollectiveTimer:
    """Adds up the time from each odd mark to the next one: there a collective begins and ends."""

    def __init__(self, device: torch.device) -> None:
        self._is_gpu = device.type == "cuda"
        # Not a sum: events cannot be subtracted before the GPU has passed them.
        self._marks: list[Any] = []

    def mark(self) -> None:
        """Mark a beginning or an end; on a GPU by an event of its current stream."""
        if not self._is_gpu:
            self._marks.append(time.perf_counter())
            return
        event: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        self._marks.append(event)

    def take_seconds(self) -> float:
        """Return the time since the last call; waits for the GPU to pass its last mark."""
        marks, self._marks = self._marks, []
        spans = zip(marks[::2], marks[1::2], strict=True)
        if not self._is_gpu:
            return float(sum(ended - begun for begun, ended in spans))
        for ended in marks[1::2]:  # each, since collectives have streams of their own
            ended.synchronize()
        return float(sum(begun.elapsed_time(ended) for begun, ended in spans)) / 1000


def time_shards(module: FSDPModule, timer: CollectiveTimer) -> None:
    """Time the collectives of a module that is sharded and was not used yet.

    With `hsdp` the sum between nodes is not among them: FSDP2 has no place to time it.
    """
    # Its own interface is private; this has its methods.
    gather = _TimedCollective(dist.all_gather_into_tensor, timer)
    scatter = _TimedCollective(dist.reduce_scatter_tensor, timer)
    module.set_custom_all_gather(gather)  # type: ignore[arg-type]
    module.set_custom_reduce_scatter(scatter)  # type: ignore[arg-type]


def time_gradients(module: DistributedDataParallel, timer: CollectiveTimer) -> None:
    """Time from this process's last gradient on; who averages marks the end."""

    def hook(
        group: dist.ProcessGroup | None,
        bucket: dist.GradBucket,  # type: ignore[name-defined] # the stubs lack it
    ) -> torch.futures.Future[Tensor]:
        # Buckets before it are reduced beside the backward pass; behind it nothing is left to
        # compute, and what comes is a wait.
        if bucket.is_last():
            timer.mark()
        # What DDP does without a hook: the mean over processes.
        return allreduce_hook(group, bucket)  # type: ignore[arg-type] # None: all processes

    module.register_comm_hook(None, hook)


class _TimedCollective:
    def __init__(self, collective: Callable[..., dist.Work | None], timer: CollectiveTimer) -> None:
        self._collective = collective
        self._timer = timer

    def allocate(
        self, size: Sequence[int | torch.SymInt], *, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        return torch.empty(*size, dtype=dtype, device=device)

    def __call__(
        self, output_tensor: Tensor, input_tensor: Tensor, **options: Any
    ) -> dist.Work | None:
        self._timer.mark()
        work = self._collective(output_tensor, input_tensor, **options)
        self._timer.mark()
        return work
