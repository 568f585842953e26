"""A registry's line that is wrong is named."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from groundserve import families
from groundserve.errors import GroundserveError


@pytest.mark.parametrize(
    ("place", "module", "message"),
    [
        ("groundserve.families.smal", None, r"names groundserve\.families\.smal, which is no mod"),
        ("no_such_package.small", None, r"names no_such_package\.small, which is no module"),
        ("small_of_tests", SimpleNamespace(), "small_of_tests, which has no FAMILY"),
        (
            "small_of_tests",
            SimpleNamespace(FAMILY=SimpleNamespace(name="smal", head="frames")),
            "has a FAMILY whose name is 'smal'",
        ),
    ],
)
def test_a_wrong_line_is_named(monkeypatch, place, module, message):
    monkeypatch.setitem(families._MODULES, "small", place)
    if module is not None:
        monkeypatch.setitem(sys.modules, place, module)
    with pytest.raises(GroundserveError, match=f"line of the family small .*{message}") as e:
        families.get_family("small")
    assert "groundserve/families/__init__.py" in str(e.value)


def test_a_library_that_a_family_imports_is_not_taken_for_its_line(monkeypatch, tmp_path):
    (tmp_path / "small_of_tests.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(families._MODULES, "small", "small_of_tests")
    message = "^the family small cannot be imported: No module named 'no_such_library'$"
    with pytest.raises(GroundserveError, match=message):
        families.get_family("small")
