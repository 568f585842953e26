"""What a server's models are told, as environment variables of its process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from groundserve.errors import InvalidRequestError


def model_environment(
    *,
    engine_id: str,
    metrics_address: str,
    allowed_roots: Sequence[Path],
    cache_dir: Path | None,
    cache_bytes: int | None,
) -> dict[str, str]:
    """Return the variables; the caller sees here what the models' log would say is wrong.

    Args:
        engine_id: Identity of the engines, which the models load no others than.
        metrics_address: HOST:PORT of the server's own metrics.
        allowed_roots: Folders below which `file:` URIs may point.
        cache_dir: Folder of the feature cache; no cache where None.
        cache_bytes: Most bytes in it; the models' default where None.

    Raises:
        InvalidRequestError: An allowed root is not a folder, or the cache's settings are wrong.
    """
    # Inside functions, as applications import the stages: see tests/unit/test_structure.py.

    from python_backend.cache import CACHE_BYTES_VARIABLE, CACHE_DIR_VARIABLE
    from python_backend.engine import ENGINE_ID_VARIABLE
    from python_backend.sources import ALLOWED_ROOTS_VARIABLE, parse_allowed_roots

    variables = {
        ALLOWED_ROOTS_VARIABLE: os.pathsep.join(map(str, allowed_roots)),
        ENGINE_ID_VARIABLE: engine_id,
    }
    parse_allowed_roots(os.fsencode(variables[ALLOWED_ROOTS_VARIABLE]))
    if cache_dir is not None:
        variables[CACHE_DIR_VARIABLE] = str(cache_dir)
    if cache_bytes is not None:
        if cache_bytes <= 0:
            raise InvalidRequestError(f"cache_bytes (--cache-bytes) must be > 0, got {cache_bytes}")
        if cache_dir is None:
            raise InvalidRequestError(
                "cache_bytes (--cache-bytes) goes with cache_dir (--cache-dir), got none"
            )
        variables[CACHE_BYTES_VARIABLE] = str(cache_bytes)
    return variables
