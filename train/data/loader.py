"""What the training loop reads from: batches in order, decoded ahead of it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice

from groundserve.errors import InvalidRequestError
from groundserve.runtime.closing import Closing
from train.config import DataConfig, Stage
from train.data.order import MicroBatch, deal, generator, micro_batches
from train.data.reader import ItemReader, Reading, Unreadable
from train.data.records import Item, group_records, read_records
from train.examples import Example
from train.families.base import Reader, ReadsItself, SampleCost, SampleFormat

logger = logging.getLogger(__name__)

AHEAD_PER_WORKER = 2
"""Items under way or waiting for the training step, a worker: one is read, one is ready."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One micro-batch of one rank."""

    examples: tuple[Example, ...]
    """In order; fewer than the batch size, or none, where items are unreadable."""
    unreadable: tuple[Unreadable, ...]
    seed: int = 0
    """By which the model draws what it drops, the same in every run and process."""


class TrainingData(Closing):
    """A data file as batches; nothing runs before the first is asked for.

    Threads take items in order, and each waits for a process that decodes.
    """

    def __init__(
        self,
        config: DataConfig,
        *,
        stage: Stage,
        samples: SampleFormat | ReadsItself,
        seed: int,
        cost: SampleCost | None = None,
    ) -> None:
        """Read the data file.

        `cost` is by what the micro-batches of a step are dealt to ranks; None: as they are drawn.

        Raises:
            InvalidRequestError: The file as a whole, or with this config, cannot be used.
        """
        file = read_records(config.records, stage=stage, speaks=False)
        self.num_auxiliary = file.num_auxiliary
        """A of the examples' `frame_targets`; 0 if the file has none."""
        if config.sample_fps is None and (stage == "grounding" or self.num_auxiliary):
            raise InvalidRequestError(
                f"{config.records}: labels count sampled frames, so sample_fps must be the rate "
                "they were made at, got None"
            )
        self.warnings = file.warnings
        self.items = group_records(file.records, questions_per_video=config.questions_per_video)
        """In file order; the number of an item is its place here."""
        self._lengths = None
        if config.group_by_length:
            self._lengths = [
                item.records[0].num_words if isinstance(item, Item) else 0 for item in self.items
            ]
        what = f"{len(file.records)} records in {len(self)} items"
        logger.info("%s: %s, %d auxiliary targets", config.records, what, self.num_auxiliary)
        self._seed = seed
        self._cost = cost
        self._num_workers = config.num_workers
        self.samples = samples
        self._reader: Reader = (
            samples.open_reader()
            if isinstance(samples, ReadsItself)
            else ItemReader(config, stage=stage, samples=samples)
        )
        self._pool = ThreadPoolExecutor(config.num_workers, thread_name_prefix="train-data")

    def __len__(self) -> int:
        """Return the number of items, malformed records included."""
        return len(self.items)

    def batches(
        self,
        *,
        first: int,
        last: int,
        rank: int,
        world_size: int,
        batch_size: int,
        accumulation_steps: int = 1,
    ) -> Generator[Batch, None, None]:
        """Yield the micro-batches first..last-1 of a rank, counted from 0 over all epochs.

        Each is the same whatever `first` is, so a run goes on where it stopped; but `first` begins
        a step, whose `accumulation_steps` micro-batches are dealt together.
        """
        passes = micro_batches(
            len(self),
            lengths=self._lengths,
            seed=self._seed,
            first=first,
            last=last,
            world_size=world_size,
            batch_size=batch_size,
        )
        plan = self._dealt(passes, rank=rank, accumulation_steps=accumulation_steps)
        firsts: deque[tuple[int, int]] = deque()  # epoch and first item of the batches under way

        def tasks() -> Iterator[tuple[int, int]]:
            for batch in plan:
                firsts.append((batch.epoch, batch.items[0]))
                yield from ((batch.epoch, number) for number in batch.items)

        with closing(self._read_ahead(tasks())) as readings:
            while members := list(islice(readings, batch_size)):
                yield Batch(
                    examples=tuple(one.example for one in members if one.example is not None),
                    unreadable=tuple(lost for one in members for lost in one.unreadable),
                    seed=generator(self._seed, *firsts.popleft()).getrandbits(63),
                )

    def readings(self, numbers: Iterable[int]) -> Generator[Reading, None, None]:
        """Yield what came of the items of these numbers, with the tokens a frame of serving.

        Where the config has no rate, it is the one that the first epoch draws.
        """
        return self._read_ahead(((0, number) for number in numbers), is_training=False)

    def read(self, number: int, *, epoch: int = 0, is_training: bool = True) -> Reading:
        """Read one item as an epoch does, in the calling thread."""
        rng = generator(self._seed, epoch, number)
        item = self.items[number]
        reading: Reading = self._reader.read(item, number=number, rng=rng, is_training=is_training)
        return reading

    def close(self) -> None:
        """End all processes and threads, also amid a video."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._reader.close()
        self._pool.shutdown()

    def _dealt(
        self, passes: Iterator[list[MicroBatch]], *, rank: int, accumulation_steps: int
    ) -> Iterator[MicroBatch]:
        """Yield the micro-batches of a rank; one that is alone has them as they are drawn."""
        while step := list(islice(passes, accumulation_steps)):
            world_size = len(step[0])
            batches = [batch for ranks in step for batch in ranks]
            chosen = list(range(rank, len(batches), world_size))
            if self._cost is not None and world_size > 1:
                costs = [self._predict(batch, self._cost) for batch in batches]
                chosen = deal(costs, num_ranks=world_size)[rank]
            yield from (batches[i] for i in chosen)

    def _predict(self, batch: MicroBatch, cost: SampleCost) -> float:
        guesses = [
            self._reader.guess(self.items[i], rng=generator(self._seed, batch.epoch, i))
            for i in batch.items
        ]
        return cost(
            num_frames=sum(num_frames for num_frames, _ in guesses),
            lengths=[length for _, lengths in guesses for length in lengths],
        )

    def _read_ahead(
        self, tasks: Iterable[tuple[int, int]], *, is_training: bool = True
    ) -> Generator[Reading, None, None]:
        """Yield what the (epoch, item number) pairs give, in order."""
        pending: deque[Future[Reading]] = deque()
        try:
            for epoch, number in tasks:
                read = partial(self.read, number, epoch=epoch, is_training=is_training)
                pending.append(self._pool.submit(read))
                # The oldest is waited for even where later ones are done: order counts, and so
                # does memory.
                if len(pending) == AHEAD_PER_WORKER * self._num_workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            # Also when the generator is closed half-way; calls that run already end by themselves.
            for future in pending:
                future.cancel()
