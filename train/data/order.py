"""The order of a run: which items each rank reads in each micro-batch, and their random numbers.

All of it follows from the seed and the place in the run; nothing is drawn from global state, so a
run that stops and goes on reads what it would have read.

    epoch's order   i0 i1 i2 i3 i4 i5 i6        n = 7 items, W = 2 ranks, batches of B = 2
    micro-batch 0   |rank 0|rank 1|             a block of W * B
    micro-batch 1               |i4 i5|i6 i0|   filled up from the epoch's own beginning

The micro-batches of an optimiser step are then dealt anew, so that ranks wait less for one another.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """What one rank reads for one forward pass."""

    epoch: int
    items: tuple[int, ...]
    """B item numbers; one occurs twice only where a block is filled up."""


def num_micro_batches(num_items: int, *, world_size: int, batch_size: int) -> int:
    """Return how many micro-batches each rank has in an epoch, the last block filled up."""
    return -(-num_items // (world_size * batch_size))  # rounded up


def epoch_order(
    num_items: int, *, lengths: Sequence[int] | None, seed: int, epoch: int, block: int
) -> list[int]:
    """Shuffle the items of an epoch.

    `lengths` are words of each item's first question, to sort blocks of W * B by, longest first;
    None leaves the blocks as they are drawn.

    Source: NVlabs/VideoITG fab8b54,
    `eagle/train/eagle_trainer.py::get_modality_length_grouped_indices`, for lengths that are all
    positive (the sign marks records without an image there) and one sample a pass.
    """
    order = list(range(num_items))
    generator(seed, epoch).shuffle(order)
    if lengths is None:
        return order
    blocks = [order[start : start + block] for start in range(0, num_items, block)]
    # sorted is stable, so items of equal length stay as they were drawn.
    return [i for members in blocks for i in sorted(members, key=lambda i: -lengths[i])]


def micro_batches(
    num_items: int,
    *,
    lengths: Sequence[int] | None,
    seed: int,
    first: int,
    last: int,
    world_size: int,
    batch_size: int,
) -> Iterator[list[MicroBatch]]:
    """Yield the micro-batches first..last-1, counted from 0 over all epochs, one for each rank.

    Micro-batch k of rank r in an epoch takes the places (k * W + r) * B to + B of its order. One
    process with W accumulation steps therefore reads in a step what W ranks read, unless items are
    sorted by length. Past the end, places start again from the epoch's beginning, as the
    reference's launcher does with uneven batches: some items are read twice then, none is left out.
    """
    block = world_size * batch_size
    num_in_epoch = num_micro_batches(num_items, world_size=world_size, batch_size=batch_size)
    order_epoch, order = -1, list[int]()
    for number in range(first, last):
        epoch, k = divmod(number, num_in_epoch)
        # Once an epoch and not in each micro-batch: VideoITG-40K has half a million records.
        if epoch != order_epoch:
            order = epoch_order(num_items, lengths=lengths, seed=seed, epoch=epoch, block=block)
            order_epoch = epoch
        starts = range(k * block, (k + 1) * block, batch_size)
        yield [
            MicroBatch(
                epoch=epoch,
                # A block may be larger than the set: then the modulo goes round more than once.
                items=tuple(order[place % num_items] for place in range(start, start + batch_size)),
            )
            for start in starts
        ]


def deal(costs: Sequence[float], *, num_ranks: int) -> list[list[int]]:
    """Share out the micro-batches of a step, equally many to each rank.

    From the costliest on, each pass takes as many as there are ranks, and the costliest of these
    goes to the rank that has least so far. So those of one pass are alike, which counts where
    ranks wait for one another in every layer (`fsdp2`), and so are the ranks' sums, which count
    where they wait once a step (`ddp`). The mean over a step is the same however it is dealt.
    Returned are for each rank the places in `costs` of what it reads, pass by pass.
    """
    costliest_first = sorted(range(len(costs)), key=lambda i: -costs[i])
    shares: list[list[int]] = [[] for _ in range(num_ranks)]
    loads = [0.0] * num_ranks
    for start in range(0, len(costs), num_ranks):
        # Anew in each pass; ranks with equal loads stay in order, so all processes agree.
        least_first = sorted(range(num_ranks), key=loads.__getitem__)
        for rank, i in zip(least_first, costliest_first[start : start + num_ranks], strict=True):
            shares[rank].append(i)
            loads[rank] += costs[i]
    return shares


def generator(*parts: int) -> random.Random:
    """Return the random numbers of a seed and an epoch, or of these and an item."""
    # A string is hashed whole (SHA-512), so neighbouring numbers give unrelated streams.
    return random.Random(":".join(map(str, parts)))
