import random
from itertools import chain

import pytest

from train.data.order import deal, epoch_order, micro_batches, num_micro_batches
from train.families.videoitg.samples import grid_choices


def read(num_items, *, lengths=None, seed=0, first=0, last, rank=0, world_size=1, batch_size=1):
    plan = micro_batches(
        num_items,
        lengths=lengths,
        seed=seed,
        first=first,
        last=last,
        world_size=world_size,
        batch_size=batch_size,
    )
    return [(ranks[rank].epoch, ranks[rank].items) for ranks in plan]


def flat(batches):
    return list(chain.from_iterable(items for _, items in batches))


def test_the_order_is_pinned():
    # A resumed run must find this order after an upgrade too.
    assert epoch_order(8, lengths=None, seed=42, epoch=0, block=1) == [4, 7, 6, 2, 0, 3, 5, 1]


def test_the_last_block_is_filled_up_from_the_epochs_beginning():
    assert num_micro_batches(7, world_size=2, batch_size=2) == 2
    ranks = [read(7, last=2, rank=rank, world_size=2, batch_size=2) for rank in (0, 1)]
    order = epoch_order(7, lengths=None, seed=0, epoch=0, block=4)
    assert flat([ranks[0][0], ranks[1][0]]) == order[:4]
    assert flat([ranks[0][1], ranks[1][1]]) == [*order[4:], order[0]]


@pytest.mark.parametrize("first", [1, 4, 5, 9])
def test_reading_from_the_middle_gives_the_same(first):
    options = {"rank": 1, "world_size": 2, "batch_size": 2, "lengths": list(range(17))}
    assert read(17, first=first, last=12, **options) == read(17, last=12, **options)[first:]


def test_blocks_are_sorted_by_length_descending():
    lengths = [5, 1, 4, 2, 3, 9, 7, 8, 6]
    plain = epoch_order(9, lengths=None, seed=3, epoch=1, block=4)
    grouped = epoch_order(9, lengths=lengths, seed=3, epoch=1, block=4)
    for start in (0, 4, 8):
        block = grouped[start : start + 4]
        assert sorted(block) == sorted(plain[start : start + 4])
        assert block == sorted(block, key=lambda i: -lengths[i])


def test_the_costliest_of_each_pass_goes_to_who_has_least():
    #        9    8    7    1    2    3
    costs = [9.0, 8.0, 7.0, 1.0, 2.0, 3.0]
    # Passes of 9 and 8, of 7 and 3, of 2 and 1; the first rank's 9 meets 3, the second's 8 meets 7.
    assert deal(costs, num_ranks=2) == [[0, 5, 4], [1, 2, 3]]


@pytest.mark.parametrize(("num_ranks", "num_passes"), [(2, 5), (8, 16), (3, 1), (1, 4)])
def test_every_rank_has_as_many_and_none_is_left_out(num_ranks, num_passes):
    rng = random.Random(1)
    costs = [rng.random() for _ in range(num_ranks * num_passes)]
    shares = deal(costs, num_ranks=num_ranks)
    assert [len(share) for share in shares] == [num_passes] * num_ranks
    assert sorted(chain.from_iterable(shares)) == list(range(len(costs)))
    # No other way to fill the passes has a smaller sum of their maxima.
    slowest = sum(max(costs[i] for i in one) for one in zip(*shares, strict=True))
    assert slowest == pytest.approx(sum(sorted(costs, reverse=True)[::num_ranks]))


def test_a_grid_is_drawn_from_its_choices():
    choices = grid_choices(4, vision_token_num=16384, vision_min_num=1, side=27)
    assert choices == [*range(1, 28), *[27] * 37]  # 1 to 64, capped after the draw
    rng, same = random.Random(3), random.Random(3)
    drawn = [rng.choice(choices) for _ in range(100)]
    # The numbers that `randint` gave: earlier runs resume to the same grids.
    assert drawn == [min(same.randint(1, 64), 27) for _ in range(100)]
