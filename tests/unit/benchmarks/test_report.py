"""What a report says about how it was made."""

import json
import sys

from benchmarks import _report


def test_the_command_can_be_pasted(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_report, "_PACKAGES", ("numpy",))
    monkeypatch.setattr(sys, "argv", ["benchmarks/plan_size.py", "--variant", "all three"])
    _report.write_report(tmp_path / "new" / "report.json", "how large?", {"bytes": 1})
    report = json.loads((tmp_path / "new" / "report.json").read_text())
    assert report["command"] == "python -m benchmarks.plan_size --variant 'all three'"
    assert report == json.loads(capsys.readouterr().out)


def test_a_machine_without_git_and_packages_gets_its_report(tmp_path, monkeypatch):
    monkeypatch.setattr(_report, "_PACKAGES", ("numpy", "no-such-package"))
    monkeypatch.setenv("PATH", str(tmp_path))
    _report.write_report(tmp_path / "report.json", "how large?", {"bytes": 1})
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["commit"] is None
    assert report["machine"]["packages"]["no-such-package"] is None
    assert report["machine"]["packages"]["numpy"] is not None
    assert report["results"] == {"bytes": 1}
