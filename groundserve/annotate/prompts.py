"""The texts that models are asked with: files of this package, or of a folder of the user's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Self, get_args

from groundserve.annotate.rules import Stage
from groundserve.errors import InvalidRequestError
from groundserve.files import read_input

REPAIR = "repair"
"""What is added where a reply cannot be used."""
_FIELDS: dict[str, set[str]] = {
    "propose": {"seconds", "number"},
    "phrase": {"question", "answer"},
    "caption": {"seconds", "phrase"},
    "retrieve": {"seconds", "captions", "question", "answer_line", "alike_rule"},
    "type": {"question", "answer"},
    "motion": {"question", "answer"},
    "existence": {"question", "answer"},
    "motion_clips": {"captions", "question", "answer"},
    "localise": {"question", "answer", "numbers"},
    REPAIR: {"reply", "problem"},
}
"""What each prompt may name with a $."""


@dataclass(frozen=True)
class Prompts:
    """All of them, by stage."""

    texts: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path | None = None) -> Self:
        """Read STAGE.txt of a folder; what is not there is the package's.

        Raises:
            InvalidRequestError: A file cannot be read, is no stage's, or names something with a $
                that its stage does not have.
        """
        found = dict.fromkeys(_FIELDS, Path(__file__).with_name("prompts"))
        if folder is not None:
            own = sorted(path.stem for path in folder.glob("*.txt"))
            if not own or (unknown := set(own) - _FIELDS.keys()):
                what = f"{min(unknown)}.txt" if own else "none"
                raise InvalidRequestError(
                    f"--prompts {folder} must hold files of {', '.join(_FIELDS)} (.txt), got {what}"
                )
            found |= dict.fromkeys(own, folder)
        texts = {}
        for name, place in found.items():
            path = place / f"{name}.txt"
            try:
                texts[name] = read_input(path).decode()
            except UnicodeDecodeError:
                raise InvalidRequestError(f"{path} is not UTF-8") from None
            _check(path, texts[name], _FIELDS[name])
        return cls(texts)

    def fill(self, stage: Stage | str, **values: object) -> str:
        """Return a prompt; what is put in is not looked at for a $ again."""
        return Template(self.texts[stage]).substitute(values).strip()

    def digests(self, stages: tuple[str, ...] = (*get_args(Stage), REPAIR)) -> dict[str, str]:
        """Return a short digest by prompt."""
        return {
            f"prompt {name}": hashlib.sha256(self.texts[name].encode()).hexdigest()[:16]
            for name in stages
        }


def _check(path: Path, text: str, known: set[str]) -> None:
    template = Template(text)
    if not template.is_valid() or (unknown := set(template.get_identifiers()) - known):
        what = f"${min(unknown)}" if template.is_valid() else "a $ without a name"
        raise InvalidRequestError(
            f"{path} names {what}; it may name {', '.join(f'${name}' for name in sorted(known))}, "
            "and $$ is a dollar sign"
        )
