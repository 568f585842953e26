"""Read a `tokenizer.json` as transformers 4.40 opens it, and write out text as it does."""

from __future__ import annotations

import secrets
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from groundserve import extras
from groundserve.errors import (
    EngineMismatchError,
    GroundserveError,
    InvalidRequestError,
    UnsupportedError,
)
from groundserve.strict_json import shown

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# What `clean_up_tokenization_spaces` does, one after another.
_CLEANED = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def read_tokenizer_json(directory: Path) -> Tokenizer:
    """Return a fast tokenizer with all that its configuration says of it.

    The tokens of `added_tokens_decoder`, the beginning token that one of the class of Llama is to
    put in front, and a decoder that cleans up spaces. Later releases of transformers make the
    normaliser of a Llama anew, and so tokenize otherwise.

    Source: transformers v4.40.1, `src/transformers/tokenization_utils_fast.py` and
    `src/transformers/models/llama/tokenization_llama_fast.py`.
    """
    from groundserve.weights.tensors import read_json  # needs PyTorch

    config = read_json(directory / "tokenizer_config.json")
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise InvalidRequestError(
            f"checkpoint {directory.name}: {path.name} is missing; download it completely"
        )
    try:
        tokenizer = extras.tokenizers.Tokenizer.from_file(str(path))
        _add_tokens(tokenizer, config)
        _put_beginning(tokenizer, config)
        if tokenizer.decoder is None:
            raise UnsupportedError("a tokenizer without a decoder is not supported")
        _clean_up(tokenizer, config)
    except GroundserveError as error:
        raise type(error)(f"checkpoint {directory.name}: {error}") from error
    except Exception as error:  # of `tokenizers`, which has no kind of its own
        raise InvalidRequestError(
            f"checkpoint {directory.name}: the tokenizer's files are damaged; download them again"
        ) from error
    return tokenizer


def load_tokenizer_json(path: Path) -> Tokenizer:
    """Load a `tokenizer.json` as `groundserve build` writes it."""
    library = extras.tokenizers
    try:
        return library.Tokenizer.from_file(str(path))
    except Exception as error:  # of no kind of its own
        raise EngineMismatchError(
            f"{path.name} cannot be read; rebuild the engine directory"
        ) from error


def check_tokens(
    known: Container[str], needed: Iterable[str], *, whose: str, what: str = "token"
) -> None:
    """Refuse a tokenizer that does not know what each of a kind of model has."""
    missing = next((token for token in needed if token not in known), None)
    if missing is not None:
        raise EngineMismatchError(
            f"the tokenizer has no {what} {missing}, as each of {whose} has; build the engines "
            "again"
        )


class MarkedTokenizer:
    """Tokenizes as another does, but for added tokens: they are read behind `mark` alone.

    So what a caller writes stays text, whatever it spells, and the template around it has tokens.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        # Drawn anew each time, so that no caller can write it.
        self.mark = f"\ufdd0{secrets.token_hex(8)}"
        self._tokenizer = extras.tokenizers.Tokenizer(tokenizer.model)
        self._tokenizer.normalizer = tokenizer.normalizer
        self._tokenizer.pre_tokenizer = tokenizer.pre_tokenizer
        marked = {
            token_id: extras.tokenizers.AddedToken(
                f"{self.mark}{token.content}", **{name: getattr(token, name) for name in _FLAGS}
            )
            for token_id, token in tokenizer.get_added_tokens_decoder().items()
        }
        self._tokenizer.add_tokens([*marked.values()])
        self._ids = {self._tokenizer.token_to_id(it.content): i for i, it in marked.items()}

    def encode(self, text: str) -> list[int]:
        """Return the other tokenizer's tokens of a text, without a beginning token."""
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return [self._ids.get(one, one) for one in ids]


class TokenWriter:
    """Writes out text; special tokens, and tokens that the tokenizer does not know, are left out.

    `Tokenizer.decode` puts, from some release on, before an added token the space that its
    normaliser took from the text; the reference's does not.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        added = tokenizer.get_added_tokens_decoder()
        self._tokenizer = tokenizer
        self._added = {i: token.content for i, token in added.items()}
        self._special = frozenset(i for i, token in added.items() if token.special)

    def text(self, token_ids: Iterable[int]) -> str:
        """Return the text of tokens."""
        known = [self._token(i) for i in token_ids if i not in self._special]
        text: str = self._tokenizer.decoder.decode([token for token in known if token is not None])
        return text

    def _token(self, token_id: int) -> str | None:
        added = self._added.get(token_id)
        token: str | None = self._tokenizer.id_to_token(token_id) if added is None else added
        return token


def _add_tokens(tokenizer: Tokenizer, config: Mapping[str, Any]) -> None:
    """Add what the configuration lists; what is there already stays, or has its flags changed."""
    listed = config.get("added_tokens_decoder", {})
    for token_id in sorted(listed, key=int):
        entry = listed[token_id]
        flags = {name: entry[name] for name in _FLAGS if name in entry}
        token = extras.tokenizers.AddedToken(entry["content"], **flags)
        add = tokenizer.add_special_tokens if token.special else tokenizer.add_tokens
        add([token])
        if tokenizer.token_to_id(token.content) != int(token_id):
            raise InvalidRequestError(
                f"tokenizer_config.json says that {shown(token.content)} is the token {token_id}, "
                f"and tokenizer.json has it as {tokenizer.token_to_id(token.content)}; give files "
                "that belong together"
            )


def _put_beginning(tokenizer: Tokenizer, config: Mapping[str, Any]) -> None:
    """Have a tokenizer of Llama's class put in front what its configuration says, and no end."""
    if not str(config.get("tokenizer_class")).startswith("LlamaTokenizer"):
        return
    if config.get("add_eos_token", False):
        raise UnsupportedError("a tokenizer that adds an end token is not supported")
    template = extras.tokenizers.processors.TemplateProcessing
    if not config.get("add_bos_token", True):
        tokenizer.post_processor = template(single="$A", special_tokens=[])
        return
    begin = config.get("bos_token", "<s>")
    if not isinstance(begin, str):  # the text alone, or its flags, too
        begin = begin["content"]
    tokenizer.post_processor = template(
        single=f"{begin} $A", special_tokens=[(begin, tokenizer.token_to_id(begin))]
    )


def _clean_up(tokenizer: Tokenizer, config: Mapping[str, Any]) -> None:
    """Have the decoder take out spaces as transformers does behind it, unless that is switched off.

    Once in the file, it holds wherever the file is read.
    """
    if config.get("clean_up_tokenization_spaces", True):
        decoders = extras.tokenizers.decoders
        tokenizer.decoder = decoders.Sequence(
            [
                tokenizer.decoder,
                decoders.Fuse(),
                *(decoders.Replace(spaced, closed) for spaced, closed in _CLEANED),
            ]
        )
