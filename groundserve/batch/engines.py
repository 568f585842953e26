"""What a job asks: engines that each worker opens, or servers that all workers share."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from groundserve.arguments import parse_url
from groundserve.batch.row_options import RowOptions
from groundserve.batch.servers import ServerPool, common_engine
from groundserve.engines.manifest import Manifest
from groundserve.errors import InvalidRequestError
from groundserve.families.base import TextFamily
from groundserve.limits import Limits
from groundserve.options import Head
from groundserve.scorer import Answerer, Scorer
from groundserve.scoring.opener import check_answerer, check_scorer, open_answerer, open_scorer
from groundserve.scoring.shipped import SHIPPED_ANSWERER, SHIPPED_CHECKPOINT, shipped_engine_dir


@dataclass(frozen=True, kw_only=True)
class EngineSource:
    """Engines as the command line names them; with none of the three, the shipped checkpoint's.

    Small, so that it travels to the workers. On a cluster, checkpoints and engine directories must
    lie where every node finds them.
    """

    checkpoint: str | None = None
    engines: Path | None = None
    servers: tuple[str, ...] = ()
    vision_tower: str | None = None
    device: str | None = None
    head: Head = "frames"
    """What the rows ask for."""
    family: str | None = None
    """`--family`, which goes with a checkpoint of head "text"."""
    parts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    vllm_python: Path | None = None
    """Of the environment that has vLLM; None: as GROUNDSERVE_VLLM_PYTHON or the usual place has."""

    @property
    def starts_vllm(self) -> bool:
        """Whether each worker starts a vLLM."""
        if self.engines is None or self.checkpoint is not None:
            return False
        return Manifest.load(self.engines).profile == "vllm"

    @property
    def is_shared(self) -> bool:
        """Whether servers answer: where they do not, that is no sign of a bad video."""
        return bool(self.servers)

    def check(self) -> TextFamily[Any] | None:
        """Refuse what could not be opened, without loading or connecting to anything.

        Returns:
            The family that answers in text; None of head "frames", and where servers have it.

        Raises:
            InvalidRequestError, UnsupportedError, EngineMismatchError: As `check_scorer` and
                `check_answerer` of `groundserve.scoring.opener`; or a server is named twice.
        """
        place = (self.checkpoint, self.engines, self.servers[0] if self.servers else None)
        family = None
        if self.head == "text":
            family = check_answerer(
                *place, family=self.family, parts=self.parts, device=self.device
            )
        else:
            check_scorer(*place, vision_tower=self.vision_tower, device=self.device)
        addresses = [parse_url("--server", url) for url in self.servers]
        if twice := {one for one in addresses if addresses.count(one) > 1}:
            raise InvalidRequestError(f"--server {min(twice)} is given twice; give each once")
        return family

    def identity(self, options: RowOptions | None = None) -> dict[str, Any]:
        """Return `Manifest.identity` of the engines, once `check` has passed; servers are asked."""
        if self.servers:
            return common_engine(self.servers, options)
        if self.checkpoint is not None:
            from python_backend.checkpoint import CheckpointStages

            stages = CheckpointStages.open(
                self.checkpoint,
                vision_tower=self.vision_tower,
                family=self.family,
                parts=self.parts,
                device=self.device,  # type: ignore[arg-type]  # `check` has looked at it
            )
            return stages.manifest.identity
        shipped = SHIPPED_ANSWERER if self.head == "text" else SHIPPED_CHECKPOINT
        return Manifest.load(self.engines or shipped_engine_dir(shipped)).identity

    def open(self, *, num_threads: int, limits: Limits) -> Scorer | Answerer:
        """Open engines in this process, or connect to the servers, to be used as a context.

        A video that takes several calls is decoded and encoded in the first of them; see
        `python_backend.cache.LastVideo`. Servers do the same where they have a cache.
        """
        if self.servers:
            return cast("Scorer", ServerPool(self.servers))
        from python_backend.cache import LastVideo
        from python_backend.meter import Counts

        if self.vllm_python is not None:
            from python_backend.generate.vllm_process import PYTHON_VARIABLE

            os.environ[PYTHON_VARIABLE] = str(self.vllm_python)
        common: dict[str, Any] = {
            "device": self.device,
            "limits": limits,
            "num_threads": num_threads,
            "cache": LastVideo(meter=Counts()),
        }
        place = (self.checkpoint, self.engines, None)
        if self.head == "text":
            return open_answerer(*place, family=self.family, parts=self.parts, **common)
        return open_scorer(*place, vision_tower=self.vision_tower, **common)
