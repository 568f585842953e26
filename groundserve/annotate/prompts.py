"""The texts that models are asked with: files of this package, or of a folder of the user's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from string import Template

from groundserve.errors import InvalidRequestError
from groundserve.files import read_input

REPAIR = "repair"
"""What is added where a reply cannot be used."""
Prompts = Mapping[str, str]
"""By stage, and `REPAIR`."""


def read_prompts(folder: Path | None = None) -> Prompts:
    """Read STAGE.txt of a folder; what is not there is the package's.

    Raises:
        InvalidRequestError: A file cannot be read, is no stage's, or names something with a $ that
            the package's own does not.
    """
    paths = sorted(Path(__file__).with_name("prompts").glob("*.txt"))
    prompts = {path.stem: path.read_text("utf-8") for path in paths}
    own = [] if folder is None else sorted(folder.glob("*.txt"))
    names = [path.stem for path in own]
    if folder is not None and (not own or not prompts.keys() >= set(names)):
        raise InvalidRequestError(
            f"--prompts {folder} must hold files of {', '.join(prompts)} (.txt), got "
            f"{', '.join(names) or 'none'}"
        )
    for path in own:
        text = read_input(path).decode("utf-8", "replace")
        known = set(Template(prompts[path.stem]).get_identifiers())
        if not Template(text).is_valid() or not known.issuperset(Template(text).get_identifiers()):
            raise InvalidRequestError(
                f"{path} may name {', '.join(f'${name}' for name in sorted(known))} and nothing "
                "else; $$ is a dollar sign"
            )
        prompts[path.stem] = text
    return prompts


def fill(prompt: str, **values: object) -> str:
    """Return a prompt; what is put in is not looked at for a $ again."""
    return Template(prompt).safe_substitute(values).strip()


def digest(text: str) -> str:
    """Return what tells a text from others."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
