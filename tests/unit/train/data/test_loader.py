import os
import threading

import numpy as np
import psutil
import pytest

from tests.unit.train.data.samples import SIDE, question
from train.families.base import SampleCost

VIDEOS = ["a.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4"]


def records():
    return [question(video, "What? " * (i + 1)) for i, video in enumerate(VIDEOS)]


def read(data, *, first=0, last, rank=0, world_size=1, batch_size=1, accumulation_steps=1):
    return list(
        data.batches(
            first=first,
            last=last,
            rank=rank,
            world_size=world_size,
            batch_size=batch_size,
            accumulation_steps=accumulation_steps,
        )
    )


def summary(batch):
    """What decides a forward pass, frames aside."""
    examples = [
        (e.tokens_per_frame, e.frames.shape, [t.ids.tolist() for t in e.texts])
        for e in batch.examples
    ]
    return examples, batch.unreadable


def test_a_resumed_run_reads_the_same_batches(make_data):
    options = {"group_by_length": True, "num_workers": 2}
    whole = read(make_data(records(), **options), last=6, batch_size=2)
    resumed = read(make_data(records(), **options), first=2, last=6, batch_size=2)
    assert [summary(batch) for batch in resumed] == [summary(batch) for batch in whole[2:]]
    for one, other in zip(resumed, whole[2:], strict=True):
        for example, same in zip(one.examples, other.examples, strict=True):
            np.testing.assert_array_equal(example.frames, same.frames)


COST = SampleCost(frame=0.0, token=1.0, pair=0.0)


def six():
    """Videos of 3 seconds, one of them missing."""
    return [{**record, "duration": 3.0} for record in [*records(), question("missing.mp4")]]


def dealt(make_data, **options):
    """What two ranks read in three steps of two passes."""
    data = make_data(six(), cost=COST)
    return [
        read(data, rank=rank, world_size=2, accumulation_steps=2, **{"last": 6, **options})
        for rank in (0, 1)
    ]


def test_dealing_keeps_what_a_step_reads(make_data):
    drawn = make_data(six())
    ranks = [read(drawn, last=6, rank=rank, world_size=2) for rank in (0, 1)]
    shared = dealt(make_data)
    assert [*map(len, shared)] == [6, 6]
    assert shared[0] != ranks[0]
    for start in (0, 2, 4):
        before, after = (
            sorted(repr(summary(b)) for rank in both for b in rank[start : start + 2])
            for both in (ranks, shared)
        )
        assert before == after


def test_a_resumed_run_is_dealt_the_same(make_data):
    for whole, rest in zip(dealt(make_data), dealt(make_data, first=4), strict=True):
        assert [summary(batch) for batch in rest] == [summary(batch) for batch in whole[4:]]


def test_examples_come_in_file_order_with_the_grid_of_evaluation(make_data):
    data = make_data([question("long.mp4"), question("missing.mp4"), question("a.mp4")])
    # floor(sqrt(300 / 6)) = 7, capped at the side of 4.
    first, second, third = data.readings(range(3))
    assert (len(first.example.frames), first.example.tokens_per_frame) == (6, SIDE**2)
    assert second.example is None
    assert [lost.item for lost in second.unreadable] == [1]
    assert (len(third.example.frames), third.example.tokens_per_frame) == (3, SIDE**2)
    (narrow,) = make_data([question("long.mp4")], vision_token_num=60).readings([0])
    assert narrow.example.tokens_per_frame == 9  # floor(sqrt(60 / 6))


@pytest.mark.parametrize("is_closed_first", [True, False])
def test_leaving_early_leaves_nothing_behind(make_data, is_closed_first):
    before = own_threads(), own_processes()
    data = make_data(records() * 20, num_workers=2)
    with data:
        batches = data.batches(first=0, last=50, rank=0, world_size=1, batch_size=2)
        next(batches)
        assert own_processes() - before[1]
        if is_closed_first:
            batches.close()
    assert (own_threads(), own_processes()) == before


def own_threads():
    return {t.ident for t in threading.enumerate() if t.name.startswith("train-data")}


def own_processes():
    return {child.pid for child in psutil.Process(os.getpid()).children(recursive=True)}
