"""How long a process stands in collectives: the sharing itself, and the wait for the slowest.

The slowest process waits for nobody, so the least time of all is what the sharing costs, and what
another has above it is its wait. Nothing is synchronised for this. A CPU stands in the call; on a
GPU, events are put around it and read when the step has ended. There a collective runs beside what
is computed, so its time is not all lost.
"""

# Annotations are not put off here: DDP reads those of its hook.
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel


class CollectiveTimer:
    """Adds up the time between marks.

    Args:
        device: What computes; the marks of a GPU are events of its current stream.
    """

    def __init__(self, device: torch.device) -> None:
        self._is_gpu = device.type == "cuda"
        # Events cannot be subtracted before the GPU has passed them, hence pairs and not a sum.
        self._begun: float | torch.cuda.Event | None = None
        self._spans: list[tuple[float, float] | tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def begin(self) -> None:
        """Mark that a collective begins."""
        self._begun = self._mark()

    def end(self) -> None:
        """Mark its end; without a beginning, nothing."""
        if self._begun is not None:
            self._spans.append((self._begun, self._mark()))  # type: ignore[arg-type] # one kind
            self._begun = None

    @contextmanager
    def span(self) -> Iterator[None]:
        """Mark both."""
        self.begin()
        yield
        self.end()

    def take_seconds(self) -> float:
        """Return the time since the last call; waits for the GPU to pass its last mark."""
        total = 0.0
        for begun, ended in self._spans:
            if isinstance(begun, float) and isinstance(ended, float):
                total += ended - begun
            elif isinstance(begun, torch.cuda.Event) and isinstance(ended, torch.cuda.Event):
                ended.synchronize()
                total += begun.elapsed_time(ended) / 1000  # it is in milliseconds
        self._spans.clear()
        return total

    def _mark(self) -> float | torch.cuda.Event:
        if not self._is_gpu:
            return time.perf_counter()
        event: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event


def time_shards(module: FSDPModule, timer: CollectiveTimer) -> None:
    """Time the collectives of one sharded module.

    With `hsdp` the sum between nodes is not among them: FSDP2 has no place to time it.

    Args:
        module: After `fully_shard`, before its first pass.
        timer: Of this process.
    """
    # Its own interface is private; these have its methods.
    module.set_custom_all_gather(_TimedAllGather(timer))  # type: ignore[arg-type]
    module.set_custom_reduce_scatter(_TimedReduceScatter(timer))  # type: ignore[arg-type]


def time_gradients(module: DistributedDataParallel, timer: CollectiveTimer) -> None:
    """Time from this process's last gradient on; who averages calls `timer.end` after it."""

    def hook(
        group: dist.ProcessGroup | None,
        bucket: dist.GradBucket,  # type: ignore[name-defined] # the stubs lack it
    ) -> torch.futures.Future[Tensor]:
        # Buckets before it are reduced beside the backward pass; behind it nothing is left to
        # compute, and what comes is a wait.
        if bucket.is_last():
            timer.begin()
        # What DDP does without a hook: the mean over processes.
        return allreduce_hook(group, bucket)  # type: ignore[arg-type] # None: all processes

    module.register_comm_hook(None, hook)


class _TimedCollective:
    """What FSDP2 asks of a collective of one's own, as its default does it."""

    def __init__(self, timer: CollectiveTimer) -> None:
        self._timer = timer

    def allocate(
        self, size: Sequence[int | torch.SymInt], *, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        return torch.empty(*size, dtype=dtype, device=device)


class _TimedAllGather(_TimedCollective):
    def __call__(
        self,
        output_tensor: Tensor,
        input_tensor: Tensor,
        group: dist.ProcessGroup,
        async_op: bool = False,
    ) -> dist.Work | None:
        with self._timer.span():
            work: dist.Work | None = dist.all_gather_into_tensor(
                output_tensor, input_tensor, group=group, async_op=async_op
            )
        return work


class _TimedReduceScatter(_TimedCollective):
    def __call__(
        self,
        output_tensor: Tensor,
        input_tensor: Tensor,
        group: dist.ProcessGroup,
        op: dist.ReduceOp.RedOpType,
        async_op: bool = False,
    ) -> dist.Work | None:
        with self._timer.span():
            work: dist.Work | None = dist.reduce_scatter_tensor(
                output_tensor, input_tensor, group=group, op=op, async_op=async_op
            )
        return work
