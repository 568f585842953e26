"""config.json of a decoder, whichever release of transformers wrote it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from groundserve.errors import InvalidRequestError

# What a config.json says of how it was run, perhaps by kernels that are not installed.
_OF_A_RUN = frozenset({"_attn_implementation", "attn_implementation"})


def read_decoder_config(
    raw: Mapping[str, Any], kind: type[Any], *, where: str, name: str, **replaced: Any
) -> Any:
    """Read a config of transformers.

    Args:
        raw: As parsed; stays as it is, which transformers' own reading does not promise.
        kind: Class of the config.
        where: The part, for errors.
        name: Of the decoder, for errors.
        replaced: What stands instead of the file's values.
    """
    values = {
        **{key: value for key, value in raw.items() if key not in _OF_A_RUN},
        "model_type": kind.model_type,
        # Of batches, and perhaps no row of the table.
        "pad_token_id": None,
        **replaced,
    }
    if isinstance(scaling := values.get("rope_scaling"), Mapping):
        # Until 4.43 long-RoPE was called su, which Phi-3.5-vision's published config still has;
        # transformers 5 reads the name, but then misses the length that the short list is for.
        values["rope_scaling"] = {
            key: "longrope" if key in ("type", "rope_type") and value == "su" else value
            for key, value in scaling.items()
        }
    try:
        with _quiet_rotary():
            return kind.from_dict(values)
    except Exception as error:  # of transformers, whose kinds differ from version to version
        raise no_decoder(where, name, error) from error


def no_decoder(where: str, name: str, error: Exception) -> InvalidRequestError:
    """Return an error of transformers or PyTorch as one of ours, in one line."""
    reason = " ".join(str(error).split())
    return InvalidRequestError(f"{where}: config.json describes no {name}: {reason}")


@contextmanager
def _quiet_rotary() -> Iterator[None]:
    """Keep transformers from advising how to write the lengths of a config that is not ours."""
    logger = logging.getLogger("transformers.modeling_rope_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
