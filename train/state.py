"""What a run needs to go on where it stopped, exactly.

    <out>/checkpoint-500/                 opens by itself, as every checkpoint
    <out>/checkpoint-500/trainer_state/   progress.json, state.pt; comes last and whole

A checkpoint without `trainer_state/` was not finished and is not resumed from. The state is that
of the whole model, so it can be resumed under another parallelism.
"""

from __future__ import annotations

import json
import logging
import pickle
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from groundserve.errors import InvalidRequestError
from groundserve.modeling.checkpoint import model_tensors
from train.config import StageConfig
from train.files import flush_directory
from train.layout import Initial, write_checkpoint

logger = logging.getLogger(__name__)

_NAME = re.compile(r"checkpoint-(\d+)")
_STATE = "trainer_state"
_FORMAT = 1
_AUXILIARY = "auxiliary."
# What may differ when a run goes on: none of it enters a loss. Accumulation steps and processes
# may change places, see `run_identity`.
_FREE = frozenset(
    (
        "out",
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
    """Optimiser steps done."""
    unreadable: tuple[tuple[int, str], ...] = ()
    """Item and source of every record found unreadable."""


def run_identity(
    config: StageConfig, *, world_size: int, num_steps: int, epoch_passes: int
) -> dict[str, Any]:
    """Return all that decides a run's losses, by names for messages.

    W processes read in a step what one reads in W accumulation steps, so the product counts; but
    not with sorted items (`data.group_by_length`).

    Args:
        config: The run's.
        world_size: Processes.
        num_steps: Optimiser steps of the whole run; follows from config and records.
        epoch_passes: Forward passes of an epoch in all processes together.
    """
    identity = {name: v for name, v in _flatten(asdict(config)).items() if name not in _FREE}
    identity["accumulation_steps x processes"] = config.accumulation_steps * world_size
    identity["forward passes an epoch"] = epoch_passes
    identity["steps"] = num_steps
    if config.data.frame_cache is not None:
        identity["data.frame_cache"] = "JPEG"  # whose frames they are; where it lies is free
    if config.data.group_by_length:
        identity["processes"] = world_size
    # As it is read back: tuples are lists, paths are text.
    value: dict[str, Any] = json.loads(json.dumps(identity, default=str))
    return value


def prepare_out(out: Path, *, resume: bool) -> None:
    """Make the folder of a run.

    Raises:
        InvalidRequestError: Something is in it, and this is not to resume it; or it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequestError(f"cannot make out {out}: {error.strerror}") from error
    if not resume and any(out.iterdir()):
        raise InvalidRequestError(f"out {out} is not empty; set resume, or another out")
    for leftover in out.glob(".checkpoint-*"):  # of a process that was killed while writing
        shutil.rmtree(leftover)


def newest_checkpoint(out: Path) -> Path | None:
    """Return the last finished checkpoint of a run."""
    return next(reversed(_finished(out)), None)


def read_progress(checkpoint: Path, identity: Mapping[str, Any]) -> Progress:
    """Read how far the run was.

    Raises:
        InvalidRequestError: It was another run: the message names what differs first.
    """
    path = checkpoint / _STATE / "progress.json"
    try:
        saved = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(checkpoint, path) from error
    if saved["format"] != _FORMAT:
        raise InvalidRequestError(
            f"{path}: format is {saved['format']}, this version reads {_FORMAT}; "
            "resume with the version that wrote it"
        )
    was = saved["run"]
    for name in [*identity, *was]:
        if identity.get(name) != was.get(name):
            raise InvalidRequestError(
                f"cannot resume {checkpoint}: {name} was {was.get(name)!r}, is now "
                f"{identity.get(name)!r}; give the earlier value, or start anew in another out"
            )
    unreadable = tuple((item, source) for item, source in saved["unreadable"])
    return Progress(step=saved["step"], unreadable=unreadable)


def gather_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return whole weights on the CPU in the first process, nothing in the others."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = cast(dict[str, Tensor], get_model_state_dict(model, options=options))
    # What was gathered from uneven shards lies in a larger storage, which safetensors refuses.
    return {
        name: tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()
        for name, tensor in weights.items()
    }


def save_state(
    config: StageConfig,
    *,
    initial: Initial,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    identity: Mapping[str, Any],
    is_first: bool,
) -> None:
    """Write a checkpoint and remove those that are too old; all processes must call it."""
    weights = gather_weights(initial.model)
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    moments = get_optimizer_state_dict(initial.model, optimizer, options=options)
    if not is_first:
        return
    checkpoint = config.out / f"checkpoint-{progress.step}"
    write_checkpoint(checkpoint, initial, weights)
    partial = checkpoint / f".{_STATE}.partial"
    partial.mkdir()
    auxiliary = {name: value for name, value in weights.items() if name.startswith(_AUXILIARY)}
    torch.save({"optimizer": moments, "auxiliary": auxiliary}, partial / "state.pt")
    saved = {"format": _FORMAT, **asdict(progress), "run": identity}
    (partial / "progress.json").write_text(json.dumps(saved, indent=1) + "\n", "utf-8")
    flush_directory(partial)
    partial.rename(checkpoint / _STATE)
    flush_directory(checkpoint / _STATE)
    _remove_old(config.out, keep_last=config.keep_last)
    logger.info("wrote %s", checkpoint)


def load_state(
    checkpoint: Path | None,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    grouped: bool,
) -> None:
    """Give model and optimiser what a checkpoint holds.

    Args:
        checkpoint: In the first process; None in the others, which get theirs from it.
        model: As saved, under any parallelism.
        optimizer: New, of that model.
        grouped: Whether there are others; all processes must call it then.

    Raises:
        InvalidRequestError: A file is damaged.
    """
    weights: dict[str, Any] = {}
    moments: dict[str, Any] = {}
    if checkpoint is not None:
        path = checkpoint / _STATE / "state.pt"
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise _damaged(checkpoint, path) from error
        weights = model_tensors(checkpoint) | state["auxiliary"]
        moments = state["optimizer"]
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=grouped)
    set_model_state_dict(model, weights, options=options)
    set_optimizer_state_dict(model, optimizer, moments, options=options)


def _finished(out: Path) -> list[Path]:
    """Return the finished checkpoints, oldest first."""
    found = [
        (int(match[1]), path)
        for path in out.iterdir()
        if (match := _NAME.fullmatch(path.name)) and (path / _STATE).is_dir()
    ]
    return [path for _, path in sorted(found)]


def _remove_old(out: Path, *, keep_last: int) -> None:
    kept = _finished(out)[-keep_last:]
    for path in out.iterdir():
        if _NAME.fullmatch(path.name) and path not in kept:
            # Its state first: what is half removed is not resumed from.
            shutil.rmtree(path / _STATE, ignore_errors=True)
            shutil.rmtree(path)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _damaged(checkpoint: Path, path: Path) -> InvalidRequestError:
    return InvalidRequestError(
        f"{path} is missing or damaged; remove {checkpoint} to resume from the one before"
    )
