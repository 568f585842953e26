"""What a model finds out about itself before it loads anything."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from groundserve.runtime.cpus import available_cpus
from python_backend.engine import ENGINE_ID_VARIABLE, EngineDirectory


@dataclass(frozen=True, kw_only=True)
class ModelContext:
    """One instance of a model on this server."""

    engine: EngineDirectory
    """The engine directory that holds the model repository."""
    parameters: dict[str, str]
    """`parameters` of config.pbtxt, as text: a few models are told what only the repository knows,
    and an operator may add `engine_dir`."""
    num_threads: int
    """Threads an engine may use: cores / instances of the model."""

    @classmethod
    def load(cls, args: dict[str, str]) -> Self:
        """Read the arguments of `initialize`."""
        # Protobuf as JSON: each parameter is an object with one field, `string_value`.
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        # <engine directory>/model_repository/<model>; its name is UTF-8, whatever the locale.
        default_dir = Path(os.fsdecode(args["model_repository"].encode())).parent.parent
        num_instances = sum(group["count"] for group in config["instance_group"])
        return cls(
            engine=EngineDirectory.load(
                parameters.get("engine_dir", default_dir),
                engine_id=os.environ.get(ENGINE_ID_VARIABLE),
            ),
            parameters=parameters,
            num_threads=max(1, available_cpus() // num_instances),
        )
