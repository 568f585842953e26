"""What a run needs to go on where it stopped, exactly.

    <out>/checkpoint-500/trainer_state/progress.json   how far the run is, and which run it is
    <out>/checkpoint-500/trainer_state/.metadata       which tensor lies in which file
    <out>/checkpoint-500/trainer_state/__0_0.distcp    what process 0 wrote, and so on

Every process writes its own shards of the weights and of the optimiser's moments into a folder of
another name, which the first one renames when all is on the disk. Another number of processes, or
another parallelism, reads it too. `train.export` makes a model of it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load as load_tensors
from torch.distributed.checkpoint.state_dict_saver import save as save_tensors

from groundserve.errors import GroundserveError, InvalidRequestError
from train.config import StageConfig
from train.files import flush, flush_directory
from train.parallel import Processes

logger = logging.getLogger(__name__)

_NAME = re.compile(r"checkpoint-(\d+)")
_STATE = "trainer_state"
_FORMAT = 2
_PARTS = ("data", "optimizer")
_WEIGHTS, _MOMENTS = "weights", "moments"
# What may differ when a run goes on: none of it enters a loss. Accumulation steps and processes
# may change places, see `run_identity`.
_FREE = frozenset(
    (
        "out",
        "validation",
        "accumulation_steps",
        "parallelism",
        "gradient_checkpointing",
        "save_every_steps",
        "keep_last",
        "log_every_steps",
        "data.num_workers",
        "data.max_unreadable_share",
    )
)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is."""

    step: int = 0
    unreadable: tuple[tuple[int, str], ...] = ()
    """Item and source of every record found unreadable."""


def run_identity(
    config: StageConfig, *, world_size: int, num_steps: int, epoch_passes: int
) -> dict[str, Any]:
    """Return all that decides a run's losses, by names for messages.

    W processes read in a step what one reads in W accumulation steps, so the product counts; but
    not with sorted items (`data.group_by_length`). `epoch_passes` are those of all processes.
    """
    values = asdict(config)
    values |= {f"{part}.{name}": v for part in _PARTS for name, v in values.pop(part).items()}
    identity = {name: v for name, v in values.items() if name not in _FREE}
    identity["accumulation_steps x processes"] = config.accumulation_steps * world_size
    identity["forward passes an epoch"] = epoch_passes
    identity["steps"] = num_steps
    if config.data.frame_cache is not None:
        identity["data.frame_cache"] = "JPEG"  # whose frames they are; where it lies is free
    if config.data.group_by_length:
        identity["processes"] = world_size
    # As it is read back: tuples are lists, paths are text.
    value: dict[str, Any] = json.loads(json.dumps(identity, default=os.path.realpath))
    return value


def prepare_out(out: Path, *, resume: bool) -> None:
    """Clear up in the folder of a run; refuse one that holds what is not to be resumed."""
    if not resume and any(out.iterdir()):
        raise InvalidRequestError(f"out {out} is not empty; --resume goes on, or set another out")
    for leftover in out.glob(".checkpoint-*"):  # of a process that was killed amid it
        shutil.rmtree(leftover)
    finished = _finished(out)
    for path in out.glob("checkpoint-*"):
        if path not in finished:
            raise InvalidRequestError(
                f"{path} is no checkpoint of this run and may have the name of one; move it away"
            )


def newest_checkpoint(out: Path) -> Path | None:
    """Return the last finished checkpoint of a run."""
    return next(reversed(_finished(out)), None)


def read_progress(checkpoint: Path, identity: Mapping[str, Any]) -> Progress:
    """Read how far the run was."""
    path = checkpoint / _STATE / "progress.json"
    with _reading(checkpoint, path):
        saved = json.loads(path.read_text("utf-8"))
    if saved["format"] != _FORMAT:
        raise InvalidRequestError(
            f"{path}: format is {saved['format']}, this version reads {_FORMAT}; "
            "resume with the version that wrote it"
        )
    was = saved["run"]
    for name in [*identity, *was]:
        if identity.get(name) != _resolved(was.get(name)):
            raise InvalidRequestError(
                f"cannot resume {checkpoint}: {name} was {was.get(name)!r}, is now "
                f"{identity.get(name)!r}; give the earlier value, or start anew in another out"
            )
    if checkpoint.name != f"checkpoint-{saved['step']}":
        raise InvalidRequestError(
            f"{checkpoint} holds step {saved['step']}; give it that name, or move it away"
        )
    unreadable = tuple((item, source) for item, source in saved["unreadable"])
    return Progress(step=saved["step"], unreadable=unreadable)


def _resolved(value: Any) -> Any:
    """Return a path without links and `..`; earlier versions saved it as the config led to it."""
    return os.path.realpath(value) if isinstance(value, str) and os.path.isabs(value) else value


def save_state(
    config: StageConfig,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    identity: Mapping[str, Any],
    processes: Processes,
) -> None:
    """Write a checkpoint and remove those that are too old; all processes must call it."""
    checkpoint = config.out / f"checkpoint-{progress.step}"
    partial = checkpoint.with_name(f".{checkpoint.name}.partial")
    tensors, _ = _tensors(model, optimizer)
    try:
        with _quiet():
            # Rates and betas follow from the config, so tensors are all there is.
            save_tensors(tensors, checkpoint_id=partial / _STATE, no_dist=not processes.grouped)
    except CheckpointException as error:
        raise _not_written(checkpoint, error) from error
    if not processes.is_first:
        return
    saved = {"format": _FORMAT, **asdict(progress), "run": identity}
    (partial / _STATE / "progress.json").write_text(json.dumps(saved, indent=1) + "\n", "utf-8")
    flush_directory(partial)
    partial.rename(checkpoint)
    flush(config.out)
    _remove_old(config.out, keep_last=config.keep_last)
    logger.info("wrote %s", checkpoint)


def load_state(
    checkpoint: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    processes: Processes,
) -> None:
    """Give model and optimiser what a checkpoint holds; all processes must call it."""
    tensors, whole = _tensors(model, optimizer)
    path = checkpoint / _STATE
    with _reading(checkpoint, path):
        load_tensors(tensors, checkpoint_id=path, no_dist=not processes.grouped)  # in place
    set_model_state_dict(model, tensors[_WEIGHTS])
    set_optimizer_state_dict(model, optimizer, whole)


class SavedWeights(Mapping[str, Tensor]):
    """The weights of a checkpoint by the model's names; each is read whole when asked for."""

    def __init__(self, checkpoint: Path) -> None:
        self._checkpoint = checkpoint
        self._path = checkpoint / _STATE
        with _reading(checkpoint, self._path):
            found = FileSystemReader(self._path).read_metadata().state_dict_metadata
        self._entries = {
            name.removeprefix(f"{_WEIGHTS}."): entry
            for name, entry in found.items()
            if name.startswith(f"{_WEIGHTS}.") and isinstance(entry, TensorStorageMetadata)
        }

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __getitem__(self, name: str) -> Tensor:
        entry = self._entries[name]
        tensor = torch.empty(entry.size, dtype=entry.properties.dtype)
        with _reading(self._checkpoint, self._path):
            load_tensors({_WEIGHTS: {name: tensor}}, checkpoint_id=self._path, no_dist=True)
        return tensor


def _tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Return weights and moments as they lie here, and the optimiser's whole state of those."""
    whole: dict[str, Any] = get_optimizer_state_dict(model, optimizer)
    return {_WEIGHTS: get_model_state_dict(model), _MOMENTS: whole["state"]}, whole


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # Said of every process that is meant to be alone.
        warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable", UserWarning)
        yield


@contextmanager
def _reading(checkpoint: Path, path: Path) -> Iterator[None]:
    try:
        with _quiet():
            yield
    except (OSError, EOFError, ValueError, UnpicklingError, CheckpointException) as error:
        raise InvalidRequestError(
            f"{path} is missing or damaged; remove {checkpoint} to resume from the one before"
        ) from error


def _finished(out: Path) -> list[Path]:
    found = [
        (int(match[1]), path)
        for path in out.iterdir()
        if (match := _NAME.fullmatch(path.name)) and (path / _STATE).is_dir()
    ]
    return [path for _, path in sorted(found)]


def _remove_old(out: Path, *, keep_last: int) -> None:
    for path in _finished(out)[:-keep_last]:
        # Under another name: what is half removed is not resumed from.
        shutil.rmtree(path.rename(path.with_name(f".{path.name}.removed")))


def _not_written(checkpoint: Path, error: CheckpointException) -> GroundserveError:
    rank, (failure, _) = next(iter(error.failures.items()))
    # torch then finds a file that is shorter than it should be.
    cause = failure.__context__ if isinstance(failure.__context__, OSError) else failure
    return GroundserveError(
        f"process {rank} cannot write {checkpoint}: {cause}; mend it and go on with --resume"
    )
