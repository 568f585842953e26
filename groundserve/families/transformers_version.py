"""Which release of transformers the families that answer in text need.

Their decoders read `rope_parameters`, which came with 5. VideoITG runs with 4.57 as well, which
NVIDIA's image with TensorRT-LLM has.
"""

from __future__ import annotations

import importlib.metadata

from groundserve.errors import MissingExtraError, UnsupportedError

OLDEST_MAJOR = 5


def check_transformers(family: str) -> None:
    """Refuse to open a checkpoint of a family that answers in text with an older release."""
    try:
        version = importlib.metadata.version("transformers")
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingExtraError("build", "transformers") from error
    if not is_new_enough(version):
        raise UnsupportedError(
            f"the family {family} needs transformers >= {OLDEST_MAJOR}, installed is {version}; "
            f"install it with: pip install 'transformers>={OLDEST_MAJOR}' (not beside TensorRT-LLM "
            "1.2.1, which needs 4.57.3)"
        )


def is_new_enough(version: str) -> bool:
    """Tell whether a release is one that those families run with."""
    return int(version.split(".")[0]) >= OLDEST_MAJOR
