"""benchmarks.hostile from its command line, with one kind and two files."""

import json
import sys

import pytest

from benchmarks import hostile
from tests import media_assets


def test_a_kind_is_read_and_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(hostile, "KINDS", (media_assets.H264,))
    monkeypatch.setattr(
        sys, "argv", ["hostile", "--per-kind", "2", "--out", str(tmp_path / "report.json")]
    )
    with pytest.raises(SystemExit) as ended:
        hostile.main()
    assert ended.value.code == 0
    results = json.loads((tmp_path / "report.json").read_text())["results"]
    assert results["files"] == 2
    assert sum(results["kinds"][media_assets.H264.name]["answers"].values()) == 2
