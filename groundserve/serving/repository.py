"""The model repository of an engine directory, as the server will read it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from groundserve.errors import EngineMismatchError

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

_FEATURE_BYTES = {"TYPE_FP16": 2, "TYPE_FP32": 4}


def read_configs(model_repository: Path) -> dict[str, ModelConfig]:
    """Return the configuration of every model, by name.

    Raises:
        EngineMismatchError: One cannot be read.
    """
    return {
        path.parent.name: _read_config(path)
        for path in sorted(model_repository.glob("*/config.pbtxt"))
    }


def num_instances(config: ModelConfig) -> int:
    """Return how many instances of a model the server starts; an ensemble has none."""
    return sum(group.count for group in config.instance_group)


def feature_bytes(config: ModelConfig) -> int | None:
    """Return the bytes of one number in a model's FEATURES, None where it has none."""
    from tritonclient.grpc.model_config_pb2 import DataType

    for tensor in [*config.input, *config.output]:
        if tensor.name == "FEATURES":
            return _FEATURE_BYTES[DataType.Name(tensor.data_type)]
    return None


def _read_config(path: Path) -> ModelConfig:
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    try:
        return text_format.Parse(path.read_text("utf-8"), ModelConfig())
    except (text_format.ParseError, OSError, UnicodeDecodeError) as error:  # changed in place
        raise EngineMismatchError(
            f"{path} is no readable model configuration; rebuild the engine directory"
        ) from error
