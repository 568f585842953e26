"""Whether the packages that come with groundserve are the ones that an import finds."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from groundserve.errors import GroundserveError


def require_own(package: Literal["engine_build", "python_backend", "train"]) -> None:
    """Refuse another module of a package's name, before its code runs.

    `train` is a name that projects give to files of their own, and `python -m`, torchrun and
    PYTHONPATH let those come first.

    Raises:
        GroundserveError: An import would find another module.
    """
    # All our packages lie side by side, in a checkout and when installed.
    own = Path(__file__).parents[2] / package
    spec = find_spec(package)
    found = (
        # A namespace package, a folder without __init__.py, has places and no origin.
        None if spec is None else spec.origin or next(iter(spec.submodule_search_locations or ()))
    )
    # `train.py` lies in its parent, `train/__init__.py` in the package itself.
    if found is not None and own not in (Path(found), Path(found).parent):
        raise GroundserveError(
            f"{found} hides groundserve's own package {package}; rename it, or start the command "
            "in another folder, without that one on PYTHONPATH"
        )
