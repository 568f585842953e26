"""What a model finds out about itself before it loads anything."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from groundserve.errors import EngineMismatchError
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
    num_instances: int
    """Instances of the model, this one among them."""
    num_threads: int
    """Threads an engine may use: cores / instances of the model."""

    @classmethod
    def load(cls, args: dict[str, str]) -> Self:
        """Read the arguments of `initialize`.

        Raises:
            EngineMismatchError: Wrong numpy for this server, wrong groundserve for this engine, or
                another engine than the one the server began with.
        """
        check_numpy(np.__version__, Path("/proc/self/maps").read_bytes())
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
            num_instances=num_instances,
            num_threads=max(1, available_cpus() // num_instances),
        )


def check_numpy(version: str, memory_maps: bytes) -> None:
    """Refuse numpy 2 in a process of the wheel's server, where it would give empty outputs.

    Args:
        version: Version of numpy.
        memory_maps: Content of /proc/self/maps, which names the libraries of the process.

    Raises:
        EngineMismatchError: They do not go together.
    """
    # The wheel's own libraries are mapped into each process of its server.
    if b"nvidia_pytriton.libs" in memory_maps and int(version.split(".")[0]) >= 2:
        raise EngineMismatchError(
            f"the Triton server in the nvidia-pytriton wheel needs numpy < 2, got {version}; "
            "install it with: pip install 'numpy<2'"
        )
