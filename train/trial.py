"""A few items, read as a run would: what goes wrong with them, and what they cost."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from train.config import StageConfig
from train.cost import SampleFlops
from train.data import TrainingData
from train.data.items import Item
from train.examples import IGNORE_INDEX, Example
from train.families.base import Source


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One item that was read."""

    number: int
    fault: str | None
    """The first of its records that cannot be used, and why."""
    num_frames: int
    """T; 0 where nothing can be used."""
    core_seconds: float
    """Processor time of decoding, resizing and tokenizing."""
    flops: SampleFlops
    """Of all its sequences, the mean over the tokens a frame that may be drawn."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Means over the items of which something can be used."""

    num_items: int
    """How many those are, >= 1."""
    num_frames: float
    """T."""
    core_seconds: float
    """Processor time of reading one item."""
    core_seconds_error: float | None
    """Standard error of that mean; None with one item."""
    tower_tflop: float
    """1e12 FLOP of the vision tower, an item."""
    decoder_tflop: float
    """The same of projector, decoder and LM head."""


def open_trial_data(config: StageConfig, source: Source) -> TrainingData:
    """Open a run's data with one decoder, and without the cache, which hides what decoding costs.

    Raises:
        InvalidRequestError: As `TrainingData`.
    """
    return TrainingData(
        # Items are read one at a time, so one decoder is all that is used.
        replace(config.data, num_workers=1, frame_cache=None),
        stage=config.stage,
        samples=source.samples(config),
        seed=config.seed,
    )


def read_trial(config: StageConfig, source: Source, data: TrainingData, number: int) -> Trial:
    """Read an item and take its cost.

    Args:
        config: The run.
        source: What it starts from.
        data: From `open_trial_data`; its decoder runs already, or its start counts.
        number: Of the item.
    """
    # Not by the clock, which also counts waits for the disk and for other processes.
    started = cpu_seconds(data.pids())
    reading = data.read(number)
    core_seconds = cpu_seconds(data.pids()) - started
    lost = reading.unreadable[0] if reading.unreadable else None
    example = reading.example
    item = data.items[number]
    has_media = isinstance(item, Item) and item.media is not None
    return Trial(
        number=number,
        fault=f"{lost.source}: {lost.reason}" if lost else None,
        num_frames=0 if example is None else len(example.frames),
        core_seconds=core_seconds,
        flops=SampleFlops(tower=0.0, decoder=0.0)
        if example is None
        else _expected_flops(
            config,
            source,
            example,
            # A run draws from this, which repeats what is likelier: its plain mean is what to
            # expect.
            drawn=data.samples.drawn_tokens_per_frame(len(example.frames)) if has_media else [1],
        ),
    )


def mean_cost(trials: Iterable[Trial]) -> Cost | None:
    """Average over those of which something can be used; None without any."""
    used = [trial for trial in trials if trial.num_frames]
    if not used:
        return None
    seconds = [trial.core_seconds for trial in used]
    error = statistics.stdev(seconds) / math.sqrt(len(used)) if len(used) > 1 else None
    return Cost(
        num_items=len(used),
        num_frames=statistics.mean(trial.num_frames for trial in used),
        core_seconds=statistics.mean(seconds),
        core_seconds_error=error,
        tower_tflop=statistics.mean(trial.flops.tower for trial in used) / 1e12,
        decoder_tflop=statistics.mean(trial.flops.decoder for trial in used) / 1e12,
    )


def _expected_flops(
    config: StageConfig, source: Source, example: Example, *, drawn: Sequence[int]
) -> SampleFlops:
    sequences = [
        source.sample_flops(
            config,
            num_frames=len(example.frames),
            tokens_per_frame=tokens_per_frame,
            num_text_tokens=len(text.ids) - 1,
            num_targets=0 if text.targets is None else int((text.targets != IGNORE_INDEX).sum()),
        )
        for text in example.texts
        for tokens_per_frame in drawn
    ]
    return SampleFlops(
        tower=sequences[0].tower,  # once, whatever is asked
        decoder=sum(one.decoder for one in sequences) / len(drawn),
    )


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the processor time that this process and its decoders have used."""
    return time.process_time() + sum(map(_process_seconds, pids))


def _process_seconds(pid: int) -> float:
    try:
        # Behind the name, which may hold anything: user and system time are fields 14 and 15.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has just ended
        return 0.0
    # The first that is left is field 3. Times are in ticks.
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
