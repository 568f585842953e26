"""A run over a corpus as events: units on workers, waves, lost nodes, killed drivers, resumption.

It follows `groundserve.batch.job`: units go out in waves, each begun by fresh workers; a unit that
was lost is done again at the end, each video alone, and a video that is lost again is an error;
what was not published when the driver is killed is done again by the next attempt.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks._planned_corpus import Floats, Units


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What the machines and their owner do to a run. Times in seconds."""

    num_nodes: int
    """Of the run."""
    node_workers: int = 8
    """Workers of a node, which is lost as a whole."""
    slow_nodes: int = 0
    """That take twice the time for everything."""
    node_loss_seconds: float | None = None
    """Mean time until a node is lost; never where None."""
    replace_seconds: float = 600.0
    """Until another stands in for a lost node."""
    poison_share: float = 0.0
    """Of the videos, which end the process that works on them, each time."""
    driver_kill_seconds: float | None = None
    """Mean time until the driver is killed; never where None. It is started again at once."""
    start_seconds: float = 90.0
    """Until a worker has opened its engines; at each wave, and after its process died."""
    wave_units: int = 64
    """Units a worker that are given out together, as in `groundserve.batch.job`."""
    publish_seconds: float = 0.1
    """That the driver takes for a unit, one after another."""
    plan_seconds_a_row: float = 0.0
    """That an attempt takes for each row of the manifest, done or not, before its first unit."""

    @property
    def num_workers(self) -> int:
        """Of the run."""
        return self.num_nodes * self.node_workers


@dataclass(kw_only=True)
class Outcome:
    """How a run went. Worker seconds are summed over workers."""

    seconds: float = 0.0
    """From the first attempt's start to the last one's end."""
    needed: float = 0.0
    """Worker seconds of all units on nodes that are not slow, each done once."""
    done_twice: float = 0.0
    """Worker seconds of work whose result was lost."""
    planning: float = 0.0
    """Worker seconds in which workers wait for an attempt's plan."""
    num_attempts: int = 0
    """Drivers started."""
    num_units: int = 0
    """Of the corpus."""
    num_lost_units: int = 0
    """Whose worker died."""
    num_poison: int = 0
    """Videos that are errors, as they should."""
    num_lost_twice: int = 0
    """Healthy videos that are errors until a resume tries them again."""
    publish_lag_seconds: float = 0.0
    """Longest time from a unit's end to its publication."""


@dataclass(kw_only=True)
class _Wave:
    """Units that were given out together."""

    starts: Floats
    """When each was begun."""
    ends: Floats
    """When it was done, or lost."""
    is_lost: NDArray[np.bool_]
    """Whether its worker died."""


@dataclass(kw_only=True)
class _Nodes:
    """The machines of a run, over all attempts."""

    conditions: Conditions
    rng: np.random.Generator
    slowness: list[float] = field(init=False)
    _losses: list[list[float]] = field(init=False)
    """Of each node, the times at which it is lost, as far as they were drawn."""

    def __post_init__(self) -> None:
        number, num_slow = self.conditions.num_nodes, self.conditions.slow_nodes
        self.slowness = [2.0] * num_slow + [1.0] * (number - num_slow)
        self._losses = [[self._until_loss()] for _ in range(number)]

    def loss(self, node: int, place: int) -> float:
        """Return when a node is lost for the `place`th time, from 0."""
        losses = self._losses[node]
        while len(losses) <= place:
            losses.append(losses[-1] + self.conditions.replace_seconds + self._until_loss())
        return losses[place]

    def _until_loss(self) -> float:
        mean = self.conditions.node_loss_seconds
        return float("inf") if mean is None else float(self.rng.exponential(mean))

    def do(self, seconds: Floats, dies: NDArray[np.bool_], *, at: float) -> _Wave:
        """Give out units in order, each to the worker that is free first.

        Args:
            seconds: What each takes.
            dies: Whether it ends its worker's process, halfway through.
            at: When all workers begin to start.
        """
        conditions = self.conditions
        free = [(at + conditions.start_seconds, worker) for worker in range(conditions.num_workers)]
        places = [0] * conditions.num_workers
        starts, ends, is_lost = [], [], []
        for needed, is_poison in zip(seconds.tolist(), dies.tolist(), strict=True):
            start, worker = free[0]
            node, place = worker // conditions.node_workers, places[worker]
            while (loss := self.loss(node, place)) <= start:
                # A node that came back meanwhile, or will.
                back = loss + conditions.replace_seconds + conditions.start_seconds
                start, place = max(start, back), place + 1
            end = start + needed * self.slowness[node] * (0.5 if is_poison else 1.0)
            next_free = end + conditions.start_seconds if is_poison else end
            lost = is_poison
            if loss < end:
                end, lost, place = loss, True, place + 1
                next_free = loss + conditions.replace_seconds + conditions.start_seconds
            places[worker] = place
            starts.append(start)
            ends.append(end)
            is_lost.append(lost)
            heapq.heapreplace(free, (next_free, worker))
        return _Wave(
            starts=np.array(starts), ends=np.array(ends), is_lost=np.array(is_lost, dtype=bool)
        )


def simulate(
    units: Units, *, num_units: int, conditions: Conditions, rng: np.random.Generator
) -> Outcome:
    """Run a corpus to its end.

    Args:
        units: Those that are drawn from.
        num_units: Of the corpus, drawn with replacement.
        conditions: What happens.
        rng: Draws.
    """
    nodes = _Nodes(conditions=conditions, rng=rng)
    drawn = rng.integers(len(units.videos), size=num_units)
    num_videos = np.array([len(videos) for videos in units.videos])[drawn]
    num_poison = rng.binomial(num_videos, conditions.poison_share)
    seconds = units.seconds[drawn]
    found = Outcome(needed=float(seconds.sum()), num_units=num_units)
    left, now = np.arange(num_units), 0.0
    while True:
        found.num_attempts += 1
        killed_at = np.inf
        if conditions.driver_kill_seconds is not None:
            killed_at = now + rng.exponential(conditions.driver_kill_seconds)
        planned = min(now + conditions.plan_seconds_a_row * float(num_videos.sum()), killed_at)
        found.planning += (planned - now) * conditions.num_workers
        attempt = _Attempt(nodes, found, now=planned, killed_at=killed_at)
        none = np.empty(0, np.intp)
        suspects, published = [none], [none]
        for wave in _batched(left, conditions.wave_units * conditions.num_workers):
            is_published, is_lost = attempt.do(seconds[wave], num_poison[wave] > 0)
            suspects.append(wave[is_lost])
            published.append(wave[is_published])
        lost = np.concatenate(suspects)
        found.num_lost_units += len(lost)
        if not attempt.is_killed:
            _do_alone(attempt, units, drawn[lost], num_poison[lost], found)
        now = attempt.now
        if not attempt.is_killed:
            found.seconds = now
            return found
        # What was lost is whole units again to the next attempt.
        left = np.setdiff1d(left, np.concatenate(published), assume_unique=True)


class _Attempt:
    """One driver, until all is done or it is killed."""

    def __init__(self, nodes: _Nodes, found: Outcome, *, now: float, killed_at: float) -> None:
        self.nodes, self._found = nodes, found
        self._killed_at, self._driver_free = killed_at, now
        self.now = now
        self.is_killed = now >= killed_at

    def do(
        self, seconds: Floats, dies: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Do a wave, and publish what is done while the driver lives.

        Returns:
            Which units were published, and which were lost with their worker.
        """
        is_published = np.zeros(len(seconds), dtype=bool)
        if self.is_killed:
            return is_published, is_published
        wave = self.nodes.do(seconds, dies, at=self.now)
        publish = self.nodes.conditions.publish_seconds
        order = np.flatnonzero(~wave.is_lost)
        order = order[np.argsort(wave.ends[order], kind="stable")]
        turn = np.arange(len(order)) * publish
        free_at = np.maximum.accumulate(wave.ends[order] - turn)
        published = np.maximum(free_at, self._driver_free) + turn + publish
        is_published[order[published <= self._killed_at]] = True
        if len(order):
            lag = float((published - wave.ends[order]).max())
            self._found.publish_lag_seconds = max(self._found.publish_lag_seconds, lag)
            self._driver_free = float(published[-1])
        over = max(self._driver_free, float(wave.ends.max()))
        self.is_killed = over > self._killed_at
        self.now = min(over, self._killed_at)
        # Up to the kill, what was not published was for nothing.
        spent = np.clip(np.minimum(wave.ends, self.now) - wave.starts, 0.0, None)
        self._found.done_twice += float(spent[~is_published].sum())
        return is_published, wave.is_lost & (wave.ends <= self.now)


def _do_alone(
    attempt: _Attempt,
    units: Units,
    lost: NDArray[np.intp],
    num_poison: NDArray[np.int64],
    found: Outcome,
) -> None:
    """Do each video of lost units alone; those that are lost again are errors."""
    if not len(lost):
        return
    videos = np.concatenate([units.videos[number] for number in lost])
    # Which of a unit's videos are the poison ones does not matter: the first are.
    is_poison = np.concatenate(
        [
            np.arange(len(units.videos[number])) < count
            for number, count in zip(lost.tolist(), num_poison.tolist(), strict=True)
        ]
    )
    size = attempt.nodes.conditions.wave_units * attempt.nodes.conditions.num_workers
    num_poison_found = num_lost_twice = 0
    for wave in _batched(np.arange(len(videos)), size):
        _, is_lost = attempt.do(videos[wave], is_poison[wave])
        num_poison_found += int((is_lost & is_poison[wave]).sum())
        num_lost_twice += int((is_lost & ~is_poison[wave]).sum())
    if not attempt.is_killed:
        found.num_poison, found.num_lost_twice = num_poison_found, num_lost_twice


def _batched(numbers: NDArray[np.intp], size: int) -> list[NDArray[np.intp]]:
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]
