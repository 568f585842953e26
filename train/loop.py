"""The training loop: from a config to `<out>/final`.

A step is `accumulation_steps` forward and backward passes in each process, then one of the
optimiser. Every pass has a number, counted over all epochs, and what is read for it follows from
that number and the seed; a run that resumes needs to know no more than how many steps were done.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from groundserve.errors import GroundserveError, InvalidRequestError
from train.config import StageConfig
from train.data import Batch, TrainingData, Unreadable
from train.data.order import num_micro_batches
from train.families import find_family
from train.families.base import Initial, Losses
from train.files import sole_writer, write_checkpoint
from train.known_faults import check_records, count_auxiliary
from train.logs import RunLog, StepReport
from train.optimizer import new_optimizer, rate_factor, set_learning_rates
from train.parallel import ParallelModel, Processes, open_processes
from train.state import (
    Progress,
    SavedWeights,
    load_state,
    newest_checkpoint,
    prepare_out,
    read_progress,
    run_identity,
    save_state,
)
from train.stop import RunStoppedError, StopRequest, stop_on_sigterm
from train.unreadable import UnreadableRecords
from train.validation import OnValidation, Validation

logger = logging.getLogger(__name__)

OnStep = Callable[[StepReport], None]


@dataclass(kw_only=True)
class _Share:
    """What the passes of one step came to in one process."""

    losses: dict[str, float] = field(default_factory=dict)
    """`loss` and its parts: sums over the passes that read anything."""
    num_read: int = 0
    """Those passes."""
    num_frames: int = 0
    num_tokens: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)
    data_seconds: float = 0.0
    stops: bool = False
    """Whether this process was asked to stop: all have to know, to end after the same step."""


def train(
    config: StageConfig,
    *,
    resume: bool = False,
    on_step: OnStep | None = None,
    on_validation: OnValidation | None = None,
) -> Path:
    """Train one stage; under torchrun, every process calls this.

    With `resume` it goes on from the newest checkpoint in `config.out`, or from the start where
    there is none yet; losses and weights are those of a run that was never interrupted. `on_step`
    and `on_validation` are called in the first process. Returned is `<out>/final`, a checkpoint in
    the reference's layout.

    Raises:
        InvalidRequestError: The config, what it names, or `resume` cannot be used; no sample, or
            too few, can be read; or the loss is not finite, which takes another config too.
        RunStoppedError: A process got SIGTERM; there is a checkpoint of the step it was in.
        MissingExtraError: TensorBoard is not installed.
    """
    with ExitStack() as stack, open_processes(config.parallelism) as processes:
        processes.on_first(lambda: check_records(config))
        processes.on_first(lambda: stack.enter_context(sole_writer(config.out)))
        processes.on_first(lambda: prepare_out(config.out, resume=resume))
        _check_shared(config.out, processes)
        # In a call of its own: the model must be gone before the processes part (`open_processes`).
        return _finish(config, processes, on_step=on_step, on_validation=on_validation)


def _finish(
    config: StageConfig,
    processes: Processes,
    *,
    on_step: OnStep | None,
    on_validation: OnValidation | None,
) -> Path:
    num_auxiliary = count_auxiliary(config)
    initial = find_family(config.init, config.stage).open_initial(
        config, num_auxiliary=num_auxiliary
    )
    with TrainingData(
        config.data,
        stage=config.stage,
        samples=initial.samples(config),
        seed=config.seed,
        cost=initial.sample_cost(config),
    ) as data:
        run = Run(config, data=data, initial=initial, processes=processes)
        return run.finish(on_step=on_step, on_validation=on_validation)


class Run:
    """One stage's model, optimiser and place in its records; `initial` is changed in place.

    Made in a folder that holds checkpoints, it stands where the newest one does.
    """

    def __init__(
        self, config: StageConfig, *, data: TrainingData, initial: Initial, processes: Processes
    ) -> None:
        self._config = config
        self._data = data
        self._initial = initial
        self._processes = processes
        self._epoch_passes = num_micro_batches(
            len(data), world_size=processes.world_size, batch_size=config.batch_size
        )
        accumulation = config.accumulation_steps
        self.num_steps = config.max_steps or math.ceil(
            config.epochs * self._epoch_passes / accumulation
        )
        # The last step of whole epochs may have fewer passes than the others.
        self._num_passes = self.num_steps * accumulation
        if config.max_steps is None:
            self._num_passes = config.epochs * self._epoch_passes
        self._identity = run_identity(
            config,
            world_size=processes.world_size,
            num_steps=self.num_steps,
            epoch_passes=self._epoch_passes * processes.world_size,
        )
        checkpoint, progress = processes.on_first(self._read_progress)
        self._model = ParallelModel(initial, config, processes)
        self._optimizer = new_optimizer(initial.model, config.optimizer)
        if checkpoint is not None:
            load_state(
                checkpoint, model=initial.model, optimizer=self._optimizer, processes=processes
            )
        self.step = progress.step
        self._stops = False
        self._unreadable = UnreadableRecords(
            progress.unreadable, num_items=len(data), speaks=processes.is_first
        )
        auxiliary = initial.model.auxiliary
        self._blank = initial.blank_example(
            num_auxiliary=0 if auxiliary is None else auxiliary.out_features
        )

    def finish(
        self, *, on_step: OnStep | None = None, on_validation: OnValidation | None = None
    ) -> Path:
        """Do the steps that are left and write the final checkpoint; arguments as of `train`."""
        config, is_first = self._config, self._processes.is_first
        validation = config.validation and Validation(
            config,
            config.validation,
            initial=self._initial,
            model=self._model,
            processes=self._processes,
            on_validation=on_validation,
        )
        with ExitStack() as stack:
            request = stack.enter_context(stop_on_sigterm())
            log = stack.enter_context(RunLog(config.out, step=self.step)) if is_first else None
            batches = self._data.batches(
                first=self.step * config.accumulation_steps,
                last=self._num_passes,
                rank=self._processes.rank,
                world_size=self._processes.world_size,
                batch_size=config.batch_size,
                accumulation_steps=config.accumulation_steps,
            )
            is_last = self.step == self.num_steps
            if validation and validation.is_missing(self.step, is_last=is_last):
                self._measure(validation, log, request)
            while self.step < self.num_steps:
                report = self._do_step(batches, request)
                is_last = self.step == self.num_steps
                if log and (is_last or self.step % config.log_every_steps == 0):
                    log.step(report)
                if on_step and is_first:
                    on_step(report)
                ending = None if is_last else self._ending()
                is_due = validation and validation.is_due(self.step, is_last=is_last)
                if is_last or ending or is_due or self.step % config.save_every_steps == 0:
                    if log:
                        log.flush()
                    self._save()
                if ending:
                    self._end(ending)
                # After saving: a measurement may fail or be stopped, and no step is lost by it.
                if validation and is_due:
                    self._measure(validation, log, request)
        final = config.out / "final"
        if is_first and not final.exists():
            last = config.out / f"checkpoint-{self.step}"
            write_checkpoint(final, self._initial, SavedWeights(last))
            logger.info("wrote %s; %d unreadable records", final, len(self._unreadable))
        return final

    def _do_step(self, batches: Iterator[Batch], request: StopRequest) -> StepReport:
        started = time.perf_counter()
        config = self._config
        factor = rate_factor(
            self.step,
            config.optimizer,
            num_steps=self.num_steps,
            accumulation_steps=config.accumulation_steps,
        )
        rates = set_learning_rates(self._optimizer, factor)
        first = self.step * config.accumulation_steps
        num_passes = min(config.accumulation_steps, self._num_passes - first)
        own = self._do_passes(batches, num_passes)
        own.stops = request.is_made
        if own.stops:
            logger.warning("got SIGTERM: a checkpoint follows this step, %d", self.step + 1)
        shares = self._processes.gather(own)
        self._stops = any(share.stops for share in shares)
        num_read = sum(share.num_read for share in shares)
        lost = chain.from_iterable(share.unreadable for share in shares)
        self._unreadable.add(lost, any_read=num_read > 0)
        losses = _mean_losses(shares, num_read)
        grad_norm = 0.0
        if num_read:
            num_due = num_passes * self._processes.world_size
            # From the mean over all passes, in which those that read nothing are zero, to the mean
            # over the others.
            grad_norm = self._update(losses, scale=num_due / num_read)
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return StepReport(
            step=self.step,
            num_steps=self.num_steps,
            epoch=(first + num_passes) / self._epoch_passes,
            loss=losses.pop("loss", None),
            parts=losses,
            learning_rates=rates,
            grad_norm=grad_norm,
            num_frames=sum(share.num_frames for share in shares),
            num_tokens=sum(share.num_tokens for share in shares),
            data_seconds=tuple(round(share.data_seconds, 4) for share in shares),
            compute_seconds=time.perf_counter() - started - own.data_seconds,
            num_unreadable=len(self._unreadable),
        )

    def _do_passes(self, batches: Iterator[Batch], num_passes: int) -> _Share:
        """Add up the gradients of a step, averaged over processes by its last pass."""
        share, sums = _Share(), dict[str, Tensor]()
        for number in range(num_passes):
            asked = time.perf_counter()
            batch = next(batches)
            share.data_seconds += time.perf_counter() - asked
            losses = self._do_pass(batch, num_passes=num_passes, is_last=number == num_passes - 1)
            share.unreadable += batch.unreadable
            if not batch.examples:
                continue
            share.num_read += 1
            share.num_frames += sum(len(example.frames) for example in batch.examples)
            share.num_tokens += sum(example.num_tokens for example in batch.examples)
            # Tensors until the step's end: .item() would wait for the GPU in every pass.
            for name, value in {"loss": losses.loss.detach(), **losses.parts}.items():
                sums[name] = sums.get(name, 0.0) + value.double()
        share.losses = {name: value.item() for name, value in sums.items()}
        return share

    def _do_pass(self, batch: Batch, *, num_passes: int, is_last: bool) -> Losses:
        """Add the gradients of one batch, as its share of the mean over all passes of the step."""
        # A process whose samples cannot be read still takes part in what the others do together.
        examples = batch.examples or (self._blank,)
        share = 1 / num_passes if batch.examples else 0.0
        # By the batch and not by the process: whoever reads it, and after a resume, drops the same.
        torch.manual_seed(batch.seed)
        features = self._initial.encode(examples)
        with self._model.gradients(average=is_last):
            losses = self._model(examples, features)
            torch.autograd.backward(losses.loss * share)
        return losses

    def _update(self, losses: Mapping[str, float], *, scale: float) -> float:
        """Move the weights by gradients times `scale`; returns the gradient's norm."""
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        if scale != 1:
            torch._foreach_mul_([p.grad for p in parameters], scale)
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
        # Of sharded gradients the norm is in parts too.
        grad_norm = float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
        values = {**losses, "grad_norm": grad_norm}
        if not all(map(math.isfinite, values.values())):
            shown = ", ".join(f"{name} = {value}" for name, value in values.items())
            raise InvalidRequestError(
                f"loss and gradient must be finite, step {self.step + 1} has {shown}; the weights "
                "were left as they were. Start anew with a lower learning_rate or a max_grad_norm"
            )
        limit = self._config.optimizer.max_grad_norm
        if limit is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
        self._optimizer.step()
        return grad_norm

    def _ending(self) -> GroundserveError | None:
        """Return why to end after this step, which all processes know; None: go on."""
        config = self._config
        checkpoint = config.out / f"checkpoint-{self.step}"
        if self._stops:
            return RunStoppedError(checkpoint)
        num_passes = self.step * config.accumulation_steps * self._processes.world_size
        return self._unreadable.excess(
            num_tried=min(num_passes * config.batch_size, len(self._data)),
            max_share=config.data.max_unreadable_share,
            checkpoint=checkpoint,
        )

    def _measure(self, validation: Validation, log: RunLog | None, request: StopRequest) -> None:
        if not validation.take(self.step, log=log, request=request):
            checkpoint = self._config.out / f"checkpoint-{self.step}"
            self._end(RunStoppedError(checkpoint if self.step else None))

    def _end(self, reason: GroundserveError) -> NoReturn:
        # The launcher ends all processes when one is gone, so none may go before the first one has
        # written.
        self._processes.on_first(lambda: None)
        raise reason

    def _save(self) -> None:
        save_state(
            self._config,
            model=self._initial.model,
            optimizer=self._optimizer,
            progress=Progress(step=self.step, unreadable=tuple(self._unreadable.found)),
            identity=self._identity,
            processes=self._processes,
        )

    def _read_progress(self) -> tuple[Path | None, Progress]:
        checkpoint = newest_checkpoint(self._config.out)
        if checkpoint is None:
            return None, Progress()
        return checkpoint, read_progress(checkpoint, self._identity)


def _mean_losses(shares: Sequence[_Share], num_read: int) -> dict[str, float]:
    """Return the means over the passes that read anything; nothing if none did."""
    totals: dict[str, float] = {}
    for share in shares:
        for name, value in share.losses.items():
            totals[name] = totals.get(name, 0.0) + value
    return {name: total / num_read for name, total in totals.items()}


def _check_shared(out: Path, processes: Processes) -> None:
    """Every process writes its part of a checkpoint, so all must see one folder."""
    blind = [str(rank) for rank, sees in enumerate(processes.gather(out.is_dir())) if not sees]
    if blind:
        raise InvalidRequestError(
            f"out {out} must lie on a file system that all nodes share; processes "
            f"{', '.join(blind)} do not see what the first one made"
        )
