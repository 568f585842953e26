"""Print the entries of a lock file whose packages are not installed: missing.py requirements.lock.

What NVIDIA's image has stays as it is, in whatever version.
"""

import re
import sys
from importlib.metadata import distributions
from pathlib import Path


def main(lock: Path) -> None:
    """Print them with their hashes, as `pip install --require-hashes` wants them."""
    installed = {_normal(distribution.name) for distribution in distributions()}
    # An entry is a line that begins at the margin, with the indented hashes under it.
    for entry in re.split(r"\n(?=[^\s#])", lock.read_text("utf-8")):
        if (pin := re.match(r"[\w.-]+(?===)", entry)) and _normal(pin[0]) not in installed:
            print(entry.rstrip())


def _normal(name: str) -> str:
    # As PEP 503 compares names: Foo.Bar and foo-bar are one package.
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
