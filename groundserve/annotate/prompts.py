"""The texts that models are asked with: files of this package, or of a folder of the user's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Literal

from groundserve.errors import InvalidRequestError
from groundserve.files import read_input

Stage = Literal[
    "propose", "phrase", "caption", "retrieve", "type", "motion", "existence", "localise"
]
"""Each has its prompt, and may have an endpoint of its own."""
REPAIR = "repair"
"""What is added where a reply cannot be used."""
Prompts = Mapping[str, str]
"""By stage, and `REPAIR`."""


def read_prompts(folder: Path | None = None) -> Prompts:
    """Read STAGE.txt of a folder; what is not there is the package's.

    Raises:
        InvalidRequestError: There is no file, or one that cannot be read, is no stage's, or names
            something with a $ that the package's own does not.
    """
    paths = sorted(Path(__file__).with_name("prompts").glob("*.txt"))
    prompts = usual = {path.stem: path.read_text("utf-8") for path in paths}
    if folder is not None:
        own = {it.stem: read_input(it).decode("utf-8", "replace") for it in folder.glob("*.txt")}
        if not own or own.keys() - usual.keys():
            raise InvalidRequestError(
                f"--prompts {folder} must hold files of {', '.join(usual)} (.txt), got "
                f"{', '.join(own) or 'none'}"
            )
        prompts = usual | own
    for name, text in prompts.items():
        known = sorted(Template(usual[name]).get_identifiers())
        try:
            Template(text).substitute(dict.fromkeys(known))
        except (KeyError, ValueError):
            raise InvalidRequestError(
                f"{folder}/{name}.txt may name {', '.join(f'${it}' for it in known)} and nothing "
                "else; $$ is a dollar sign"
            ) from None
    return prompts


def fill(prompt: str, **values: object) -> str:
    """Return a prompt; what is put in is not looked at for a $ again."""
    return Template(prompt).safe_substitute(values).strip()


def digest(text: str) -> str:
    """Return what tells a text from others."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
