"""What a run of stage 4 is measured by while it goes on: frame AP on records it does not train on.

    <out>/best/                            what serving, the next stage and the reference read
    <out>/best/groundserve_validation.json which step it is, and its figures: all the state there is

The figure is that of `groundserve eval --records`, in the run's `precision` and through its frame
cache: one frame a second with serving's ceiling of frames, whatever `data.sample_fps` and
`data.max_frames` say, and serving's tokens of a frame in the run's budget. A record whose
`frame_num` lies past the frames of its video, or whose video cannot be read, is left out and
counted.

Nothing of it touches what training draws its random numbers from. A measurement that is due and not
in the log yet is made up for when the run goes on.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.frames import average_precision
from groundserve.evaluation.grounding_records import (
    UNTYPED,
    GroundingRecord,
    read_grounding_records,
)
from groundserve.limits import Limits
from train.config import StageConfig, ValidationConfig
from train.data import TrainingData
from train.data.records import Item, MalformedRecord
from train.examples import Example
from train.families.base import Initial, TrainedModel
from train.files import recover_checkpoint, write_checkpoint
from train.logs import RunLog, read_metrics
from train.parallel import ParallelModel, Processes
from train.state import SavedWeights
from train.stop import StopRequest

logger = logging.getLogger(__name__)

FIGURE = "frame_ap"
"""By which checkpoints are compared; higher is better."""
STATE_NAME = "groundserve_validation.json"

OnValidation = Callable[[int, Mapping[str, float], bool], None]
"""Called with the step, the figures, and whether they made its checkpoint the best so far."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Question:
    number: int  # of the record
    example: Example  # with this question alone
    features: Tensor
    labels: NDArray[np.bool_]  # (T,)


class Validation:
    """Measures one run; every process must call each method as often as the others.

    Processes share the videos: each scores every W-th one, and passes something blank through the
    model while others have more questions than itself.
    """

    def __init__(
        self,
        config: StageConfig,
        validation: ValidationConfig,
        *,
        initial: Initial,
        model: ParallelModel,
        processes: Processes,
        on_validation: OnValidation | None = None,
    ) -> None:
        self._config, self._every_steps = config, validation.every_steps
        self._initial, self._model, self._processes = initial, model, processes
        self._on_validation = on_validation
        self._records = read_validation(validation)
        self._data = replace(
            config.data,
            records=validation.records,
            media_root=validation.media_root,
            sample_fps=1.0,
            max_frames=Limits().max_num_frames,
            questions_per_video=len(self._records),
            group_by_length=False,
        )
        self._told: set[str] = set()
        self._best = processes.on_first(lambda: open_best(config.out, validation.records))

    def is_due(self, step: int, *, is_last: bool) -> bool:
        """Whether to measure after a step, of which a checkpoint is then needed."""
        # Before the first step too: what training adds to the start shows in the first line.
        return is_last or step % self._every_steps == 0

    def is_missing(self, step: int, *, is_last: bool) -> bool:
        """Whether that of a step is due and not in the log."""
        return self.is_due(step, is_last=is_last) and not self._processes.on_first(
            lambda: any(
                line["step"] == step and "validation" in line
                for line in read_metrics(self._config.out)
            )
        )

    def take(self, step: int, *, log: RunLog | None, request: StopRequest) -> bool:
        """Measure after a step; False: a process was asked to stop before the last question."""
        with self._model.evaluation() as trunk:
            figures = self._measure(trunk, request)
        if figures is None:
            return False
        # The weights before the line: without the line, the measurement is repeated.
        is_best = self._processes.on_first(lambda: self._offer(step, figures))
        if log:
            log.validation(step, figures)
            if self._on_validation:
                self._on_validation(step, figures, is_best)
        return True

    def _offer(self, step: int, figures: Mapping[str, float]) -> bool:
        """Write the checkpoint of a step as the best if none was as good before."""
        figure = figures[FIGURE]
        # What the run starts from, step 0, is a checkpoint already.
        if step == 0 or (self._best is not None and figure <= self._best):
            return False
        out, records = self._config.out, os.path.realpath(self._data.records)
        notes = {STATE_NAME: json.dumps({"step": step, **figures, "records": records}, indent=1)}
        weights = SavedWeights(out / f"checkpoint-{step}")
        write_checkpoint(out / "best", self._initial, weights, notes=notes)
        self._best = figure
        logger.info("wrote %s: step %d, %s %.4f", out / "best", step, FIGURE, figure)
        return True

    def _measure(self, trunk: TrainedModel, request: StopRequest) -> dict[str, float] | None:
        """Return `frame_ap`, by type too where records name types, and what it was measured on.

        `num_questions` entered it; `num_left_out` have relevant frames and could not be scored.
        """
        found: list[tuple[int, float]] = []  # number of the record, its average precision
        lost: dict[str, str] = {}
        config, world_size = self._config, self._processes.world_size
        samples = self._initial.samples(config)
        with TrainingData(
            self._data, stage=config.stage, samples=samples, seed=config.seed
        ) as data:
            numbers = _numbers(data.items)
            shares = [self._answered(numbers[rank::world_size]) for rank in range(world_size)]
            share = shares[self._processes.rank]
            with closing(self._questions(data, numbers, share, lost)) as questions:
                for _ in range(max(map(len, shares))):
                    if any(self._processes.gather(request.is_made)):
                        return None
                    question = next(questions, None)
                    precision = self._score(trunk, question)
                    if question is not None:
                        found.append((question.number, precision))
        return self._summary(
            list(chain.from_iterable(self._processes.gather(found))),
            dict(chain.from_iterable(each.items() for each in self._processes.gather(lost))),
        )

    def _answered(self, videos: Sequence[range]) -> set[int]:
        """Return the records of some videos that a frame answers: those that are scored."""
        numbers = chain.from_iterable(videos)
        return {number for number in numbers if self._records[number].positive_frames}

    def _questions(
        self,
        data: TrainingData,
        numbers: Sequence[range],
        wanted: set[int],
        lost: dict[str, str],
    ) -> Generator[_Question, None, None]:
        """Yield those of a share that can be scored; a video is decoded and encoded once."""
        items = [item for item, members in enumerate(numbers) if not wanted.isdisjoint(members)]
        with closing(data.readings(items)) as readings:
            for item, reading in zip(items, readings, strict=True):
                lost.update((each.source, each.reason) for each in reading.unreadable)
                if reading.example is None:
                    continue
                (features,) = self._initial.encode([reading.example])
                for place, text in zip(reading.places, reading.example.texts, strict=True):
                    number = numbers[item][place]
                    labels = self._records[number].labels(len(reading.example.frames))
                    if number not in wanted or labels is None:
                        continue
                    # Without labels the model only scores, whatever else it is trained to tell.
                    asked = replace(reading.example, texts=(replace(text, labels=None),))
                    yield _Question(number=number, example=asked, features=features, labels=labels)

    def _score(self, trunk: TrainedModel, question: _Question | None) -> float:
        if question is None:
            blank = self._initial.blank_example()
            asked = replace(blank, texts=(replace(blank.texts[0], labels=None),))
            trunk([asked], self._initial.encode([asked]))
            return 0.0
        (logits,) = trunk([question.example], [question.features]).frame_logits
        if logits.isnan().any():
            return math.nan  # every process has to know, see `_summary`
        return average_precision(logits.cpu().numpy(), question.labels)

    def _summary(
        self, found: Sequence[tuple[int, float]], lost: Mapping[str, str]
    ) -> dict[str, float]:
        for source, reason in lost.items():
            if source not in self._told and self._processes.is_first:
                logger.warning("validation: cannot score %s: %s", source, reason)
            self._told.add(source)
        if not found:
            raise InvalidRequestError(
                f"no question of validation.records {self._data.records} could be scored: "
                f"{'; '.join(f'{source}: {reason}' for source, reason in islice(lost.items(), 1))}"
            )
        num_nan = sum(math.isnan(precision) for _, precision in found)
        if num_nan:
            raise InvalidRequestError(
                f"frame logits must be numbers, of {num_nan} of {len(found)} questions to validate "
                "on some are NaN; start anew with a lower learning_rate or a max_grad_norm"
            )
        # In file order, so that a mean is the same to the last bit however many processes share it.
        by_type: dict[str, list[float]] = {}
        for number, precision in sorted(found):
            by_type.setdefault(self._records[number].type, []).append(precision)
        figures = {FIGURE: float(np.mean([precision for _, precision in sorted(found)]))}
        for kind in sorted(by_type) if by_type.keys() != {UNTYPED} else ():
            figures[f"{FIGURE}/{kind}"] = float(np.mean(by_type[kind]))
        num_present = sum(bool(record.positive_frames) for record in self._records)
        num_found = len(found)
        return {**figures, "num_questions": num_found, "num_left_out": num_present - num_found}


def open_best(out: Path, records: Path) -> float | None:
    """Clear up after a run that was killed, and return the figure of `<out>/best`, if there is one.

    Raises InvalidRequestError where there is a `best` that does not say where it comes from.
    """
    path = out / "best"
    recover_checkpoint(path)
    found = read_best(out)
    # Measured on another file it is not comparable.
    if found is not None and os.path.realpath(found["records"]) != os.path.realpath(records):
        other = found["records"]
        logger.warning("%s was measured on %s; the next measurement replaces it", path, other)
        return None
    return None if found is None else float(found[FIGURE])


def read_best(out: Path) -> dict[str, Any] | None:
    """Return what a run's best says about itself (`step`, `frame_ap`, ...); None: there is none."""
    path = out / "best" / STATE_NAME
    if not path.parent.exists():
        return None
    try:
        state: dict[str, Any] = json.loads(path.read_text("utf-8"))
        float(state[FIGURE]), str(state["records"]), int(state["step"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidRequestError(
            f"{path} is missing or damaged; move {path.parent} away"
        ) from error
    return state


def read_validation(config: ValidationConfig) -> list[GroundingRecord]:
    """Read the records that a run is measured on.

    Raises InvalidRequestError where one breaks the format or no frame answers any.
    """
    try:
        records = read_grounding_records(config.records)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"validation.records: {error}") from None
    if not any(record.positive_frames for record in records):
        raise InvalidRequestError(
            f"validation.records {config.records}: frame_num of all {len(records)} records is "
            "empty, so there is nothing to rank; give questions that some frame answers"
        )
    return records


def _numbers(items: Sequence[Item | MalformedRecord]) -> list[range]:
    """Return the places in the file of each item's records."""
    sizes = [len(item.records) if isinstance(item, Item) else 1 for item in items]
    starts = accumulate(sizes, initial=0)
    return [range(start, start + size) for start, size in zip(starts, sizes, strict=False)]
