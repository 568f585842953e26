"""What would go wrong in a run, and whether decoding keeps up with the GPUs, found in minutes.

Every record is checked and every file looked up; of the videos a few are opened, as the run itself
would. No weights are read, and neither a GPU nor torchrun is needed.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev

import psutil

from groundserve.errors import InvalidRequestError
from groundserve.runtime.cpus import available_cpus
from train.config import StageConfig
from train.data import TrainingData
from train.data.reader import Reading
from train.data.records import Item
from train.examples import IGNORE_INDEX
from train.families import find_family, stage_family
from train.families.base import SampleFlops, Source
from train.known_faults import (
    Progress,
    check_validation,
    count_auxiliary,
    find_known_faults,
    media_paths,
)

H100_BF16_TFLOPS = 989.0
"""Dense, SXM; NVIDIA's data sheet names twice that, with sparsity."""
USUAL_UTILISATION = 0.4
"""Share of the peak that docs/train.md counts with; nothing here was measured on a GPU."""
_NUM_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One kind of trouble with records."""

    kind: str
    num_items: int
    num_looked_at: int
    """Out of how many: all, or the sampled ones."""
    examples: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Means over the sampled items of which something can be used."""

    num_items: int
    """How many those are, >= 1."""
    num_frames: float
    core_seconds: float
    """Processor time of decoding, resizing and tokenizing one item."""
    core_seconds_error: float | None
    tower_tflop: float
    """1e12 FLOP of the vision tower, an item."""
    decoder_tflop: float
    """The same of projector, decoder and LM head."""


@dataclass(frozen=True, kw_only=True)
class GpuNeeds:
    """What the GPUs take against what decoding gives."""

    seconds: float  # an item
    epoch_hours: float
    epoch_core_hours: float
    cores_a_gpu: float
    """Cores that decode as fast as one GPU trains."""


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What `check` found."""

    num_items: int
    """Videos or images with the records that are read together."""
    num_media: int
    faults: tuple[Fault, ...]
    """What cannot be read; a kind that was not found has 0 items."""
    warnings: tuple[str, ...]
    lost_share: float
    """Estimated share of the items that cannot be read: those known, and the sampled share of the
    others."""
    max_lost_share: float
    cost: Cost | None
    """None where no sampled item could be read."""
    gpu: GpuNeeds | None
    num_cpus: int

    @property
    def is_usable(self) -> bool:
        """Whether a run would get through."""
        return self.cost is not None and self.lost_share <= self.max_lost_share


@dataclass(frozen=True, kw_only=True)
class _Trial:
    number: int
    fault: str | None  # the first of its records that cannot be used, and why
    num_frames: int  # 0 where nothing can be used
    core_seconds: float
    flops: SampleFlops


def check(
    config: StageConfig,
    *,
    num_sampled: int = 32,
    num_gpus: int | None = None,
    gpu_tflops: float = H100_BF16_TFLOPS,
    utilisation: float = USUAL_UTILISATION,
    on_progress: Progress = lambda *_: None,
) -> CheckReport:
    """Look at what a run would read, and read some items, drawn by the run's seed.

    The GPUs share this machine's cores; None: there are none to compare with. Of their peak, in
    1e12 FLOP a second, training reaches a share, `utilisation`.

    Raises:
        InvalidRequestError: An argument is out of range; or the run could not even begin, since
            the config, the data file or what the run starts from cannot be used.
    """
    for name, value in {
        "num_sampled": num_sampled,
        "num_gpus": 1 if num_gpus is None else num_gpus,
        "gpu_tflops": gpu_tflops,
        "utilisation": utilisation,
    }.items():
        if not 0 < value < math.inf:
            raise InvalidRequestError(f"{name} must be > 0 and finite, got {value}")
    if utilisation > 1:
        raise InvalidRequestError(f"utilisation must be at most 1, got {utilisation}")
    _check_folder("out", config.out)
    if config.data.frame_cache is not None:
        _check_folder("data.frame_cache", config.data.frame_cache)
    count_auxiliary(config)
    source = find_family(config.init, config.stage).open_source(config)
    # Items are read one at a time, and a cache would hide what decoding costs.
    data_config = replace(config.data, num_workers=1, frame_cache=None)
    samples = source.samples(config)
    with TrainingData(data_config, stage=config.stage, samples=samples, seed=config.seed) as data:
        warnings = [*data.warnings, *check_validation(config, data.items)]
        known = find_known_faults(config.data, data.items, on_progress=on_progress)
        lost = set[int]().union(*known.values())
        readable = [number for number in range(len(data)) if number not in lost]
        trials = _read_sampled(config, source, data, readable, num_sampled, on_progress)
        num_items, num_media = len(data), len(media_paths(data.items))
    failed = {trial.number: trial.fault for trial in trials if trial.fault}
    known_share = len(lost) / num_items
    sampled_share = len(failed) / len(trials) if trials else 0.0
    cost, gpu = _mean_cost(trials), None
    if cost is not None:
        gpu = _gpu_needs(cost, num_items, flops_a_second=gpu_tflops * 1e12 * utilisation)
    if config.out.is_dir() and any(config.out.iterdir()):
        warnings.append(
            f"out {config.out} is not empty: start the run with --resume, or set another out"
        )
    warnings += _core_warnings(config, gpu, num_gpus, readings=num_items / max(1, num_media))
    return CheckReport(
        num_items=num_items,
        num_media=num_media,
        faults=(
            *(_fault(kind, reasons, num_items) for kind, reasons in known.items()),
            _fault("samples that cannot be used", failed, len(trials)),
        ),
        warnings=tuple(warnings),
        lost_share=known_share + (1 - known_share) * sampled_share,
        max_lost_share=config.data.max_unreadable_share,
        cost=cost,
        gpu=gpu,
        num_cpus=available_cpus(),
    )


def _fault(kind: str, reasons: Mapping[int, str], num_looked_at: int) -> Fault:
    # A file that several items want is named once.
    distinct = dict.fromkeys(reasons[number] for number in sorted(reasons))
    return Fault(
        kind=kind,
        num_items=len(reasons),
        num_looked_at=num_looked_at,
        examples=tuple(distinct)[:_NUM_EXAMPLES],
    )


def _check_folder(name: str, folder: Path) -> None:
    """Raise InvalidRequestError where a run could neither use nor make a folder; make nothing."""
    whole = folder.absolute()
    found = next(path for path in (whole, *whole.parents) if os.path.exists(path))
    if not found.is_dir() or not os.access(found, os.W_OK | os.X_OK):
        raise InvalidRequestError(
            f"{name} must be a folder that this user can make and write to, got {folder}; "
            f"{found} is in the way or cannot be written to"
        )


def _read_sampled(
    config: StageConfig,
    source: Source,
    data: TrainingData,
    readable: Sequence[int],
    num_sampled: int,
    on_progress: Progress,
) -> list[_Trial]:
    sampler = random.Random(f"check:{config.seed}")
    sampled = sorted(sampler.sample(readable, min(num_sampled, len(readable))))
    trials = []
    for done, number in enumerate(sampled, start=1):
        if done == 1:
            data.read(number)  # starts the decoder
        # Not by the clock, which also counts waits for the disk and for other processes.
        started = _cpu_seconds()
        reading = data.read(number)
        core_seconds = _cpu_seconds() - started
        lost = reading.unreadable[0] if reading.unreadable else None
        trials.append(
            _Trial(
                number=number,
                fault=f"{lost.source}: {lost.reason}" if lost else None,
                num_frames=0 if reading.example is None else len(reading.example.frames),
                core_seconds=core_seconds,
                flops=_expected_flops(config, source, data, number, reading),
            )
        )
        on_progress("samples", done, len(sampled))
    return trials


def _cpu_seconds() -> float:
    """Return the processor time of this process and of the decoders that it has."""
    seconds = time.process_time()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            seconds += times.user + times.system
    return seconds


def _expected_flops(
    config: StageConfig, source: Source, data: TrainingData, number: int, reading: Reading
) -> SampleFlops:
    """Return those of all sequences of an item, the mean over the tokens a frame of a run."""
    example, item = reading.example, data.items[number]
    if example is None:
        return SampleFlops(tower=0.0, decoder=0.0)
    # A run draws from these, which repeat what is likelier: their plain mean is what to expect.
    drawn: Sequence[int] = [1]
    if isinstance(item, Item) and item.media is not None:
        drawn = data.samples.drawn_tokens_per_frame(len(example.frames))
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


def _mean_cost(trials: Sequence[_Trial]) -> Cost | None:
    used = [trial for trial in trials if trial.num_frames]
    if not used:
        return None
    seconds = [trial.core_seconds for trial in used]
    return Cost(
        num_items=len(used),
        num_frames=mean(trial.num_frames for trial in used),
        core_seconds=mean(seconds),
        core_seconds_error=stdev(seconds) / math.sqrt(len(used)) if len(used) > 1 else None,
        tower_tflop=mean(trial.flops.tower for trial in used) / 1e12,
        decoder_tflop=mean(trial.flops.decoder for trial in used) / 1e12,
    )


def _gpu_needs(cost: Cost, num_items: int, *, flops_a_second: float) -> GpuNeeds:
    seconds = (cost.tower_tflop + cost.decoder_tflop) * 1e12 / flops_a_second
    return GpuNeeds(
        seconds=seconds,
        epoch_hours=num_items * seconds / 3600,
        epoch_core_hours=num_items * cost.core_seconds / 3600,
        cores_a_gpu=cost.core_seconds / seconds,
    )


def _core_warnings(
    config: StageConfig, gpu: GpuNeeds | None, num_gpus: int | None, *, readings: float
) -> list[str]:
    if gpu is None or num_gpus is None:
        return []
    needed, num_cpus = gpu.cores_a_gpu * num_gpus, available_cpus()
    remedies = "set data.frame_cache or data.questions_per_video, or take more cores a GPU"
    if stage_family(config.stage):
        remedies = "take more cores a GPU"
    if config.data.frame_cache is not None:
        needed /= readings  # only the first reading decodes
        remedies = "take more cores a GPU; later epochs decode nothing"
    if needed <= num_cpus:
        return []
    return [
        f"decoding needs {needed:.3g} cores to keep up with {num_gpus} GPUs, there are {num_cpus}: "
        f"the GPUs wait. Each file is read {readings:.3g} times an epoch: {remedies}"
    ]
