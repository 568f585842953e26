"""Read Llama's SentencePiece model, so that serving needs the package `tokenizers` alone.

What it becomes is written to an engine directory; `llama_tokenizer` tokenizes with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers.convert_slow_tokenizer import import_protobuf

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.tokenizers.llama_tokenizer import BEGIN, END, SPACE, UNKNOWN

# Of sentencepiece_model.proto: what a piece is, and the algorithm.
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
_BPE = 2


def read_llama_tokenizer(
    directory: Path, *, special: Sequence[str] = (), added: Sequence[str] = ()
) -> Tokenizer:
    """Return the tokenizer of a Llama checkpoint.

    Of two flavours that transformers has, the checkpoint's `legacy` says which: with it, a space
    is put in front of each stretch of text between special tokens, else in front of the first.

    Tokens that a family adds behind the pieces are `special` ones, then ordinary ones.

    Source: transformers v4.31.0, `src/transformers/models/llama/tokenization_llama.py`.
    """
    where = f"checkpoint {directory.name}"
    if (directory / "added_tokens.json").is_file():
        raise UnsupportedError(f"{where}: a tokenizer with added_tokens.json is not supported")
    config = _read_config(directory / "tokenizer_config.json", where)
    if not config.get("add_bos_token", True) or config.get("add_eos_token", False):
        raise UnsupportedError(
            f"{where}: the tokenizer must add the beginning token and no end token"
        )
    model = _read_model(directory / "tokenizer.model", where)
    tokenizer = _convert(model, legacy=config.get("legacy", True) is not False)
    _add(tokenizer, special, is_special=True)
    _add(tokenizer, added, is_special=False)
    return tokenizer


def _read_config(path: Path, where: str) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"{where}: {path.name} is damaged; download it again") from error
    if not isinstance(config, dict):
        raise InvalidRequestError(f"{where}: {path.name} must hold a JSON object")
    return config


def _read_model(path: Path, where: str) -> Any:
    """Return the `ModelProto`, checked."""
    if not path.is_file():
        raise InvalidRequestError(f"{where}: {path.name} is missing; download it completely")
    model = import_protobuf().ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise InvalidRequestError(f"{where}: {path.name} is damaged; download it again") from error
    training, normalizer = model.trainer_spec, model.normalizer_spec
    special = {piece.piece for piece in model.pieces if piece.type in (_UNKNOWN, _CONTROL)}
    rules = {
        "BPE": training.model_type == _BPE,
        "bytes for unknown characters": training.byte_fallback,
        "text as it is": not normalizer.precompiled_charsmap
        and not normalizer.remove_extra_whitespaces
        and normalizer.escape_whitespaces,
        "a space in front": normalizer.add_dummy_prefix and not training.treat_whitespace_as_suffix,
        f"{UNKNOWN}, {BEGIN} and {END}": {UNKNOWN, BEGIN, END} <= special,
        "no pieces of other kinds": {piece.type for piece in model.pieces}
        <= {_NORMAL, _UNKNOWN, _CONTROL, _BYTE},
    }
    broken = [rule for rule, holds in rules.items() if not holds]
    if broken:
        raise UnsupportedError(
            f"{where}: {path.name} must be as Llama's ({', '.join(rules)}); it breaks: "
            f"{', '.join(broken)}"
        )
    return model


def _convert(model: Any, *, legacy: bool) -> Tokenizer:
    vocabulary = {piece.piece: i for i, piece in enumerate(model.pieces)}
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary, merges=_merges(model.pieces), unk_token=UNKNOWN, byte_fallback=True
        )
    )
    # As transformers marks the two flavours in what it converts.
    if legacy:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
            replacement=SPACE, prepend_scheme="first", split=False
        )
    special = [piece.piece for piece in model.pieces if piece.type in (_UNKNOWN, _CONTROL)]
    _add(tokenizer, special, is_special=True)
    return tokenizer


def _add(tokenizer: Tokenizer, tokens: Sequence[str], *, is_special: bool) -> None:
    """Register tokens that text is split at; those that are no pieces get the ids behind them."""
    tokenizer.add_tokens(
        [AddedToken(token, special=is_special, normalized=False) for token in tokens]
    )


def _merges(pieces: Any) -> list[tuple[str, str]]:
    """Return which neighbours become one, the first before the later ones.

    SentencePiece merges wherever the result is a piece, the one of the highest score first.
    """
    scores = {piece.piece: piece.score for piece in pieces if piece.type == _NORMAL}
    merges = []
    for piece in sorted(scores, key=lambda piece: -scores[piece]):
        for cut in range(1, len(piece)):
            if piece[:cut] in scores and piece[cut:] in scores:
                merges.append((piece[:cut], piece[cut:]))
    return merges
