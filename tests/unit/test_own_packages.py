import sys

import pytest

from groundserve.errors import GroundserveError
from groundserve.own_packages import require_own


@pytest.mark.parametrize("package", ["engine_build", "python_backend", "train"])
def test_groundserves_own_packages_are_taken(package):
    require_own(package)


@pytest.mark.parametrize("name", ["train.py", "train/__init__.py", "train/data.csv"])
def test_another_of_that_name_is_named_before_it_runs(tmp_path, monkeypatch, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("raise AssertionError('it ran')")
    for module in [module for module in sys.modules if module.split(".")[0] == "train"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "path", [str(tmp_path), "/nowhere"])
    with pytest.raises(GroundserveError, match=r"train(\.py|/__init__\.py)? hides groundserve's"):
        require_own("train")
