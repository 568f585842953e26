"""What a report says about how it was made."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import _report
from benchmarks._machine import Peaks

PEAKS = Peaks(
    sgemm_gflops=100.0,
    sgemm_gflops_by_library={"torch": 100.0},
    sgemm_gflops_by_size={"torch": {"1 x 1 x 1": 100.0}},
    int8_gemm_gops=400.0,
    int8_gemm_gops_by_size={"1 x 1 x 1": 400.0},
    copy_gb_per_second=10.0,
)


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


def test_a_report_says_what_it_was_measured_with(tmp_path, capsys, clips):
    video = _report.describe_video(clips["carphone_pristine"])
    _report.write_report(
        tmp_path / "report.json",
        "how fast?",
        {"seconds": 1},
        inputs=[video],
        warm_up="one question",
        repeats=5,
        errors=["one failed: why"],
        peaks=PEAKS,
    )
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["machine"]["peaks"] == PEAKS.to_dict()
    assert report["machine"]["cores_available"] >= 1
    assert report["warm_up"] == "one question"
    assert report["repeats"] == 5
    assert report["errors"] == ["one failed: why"]
    assert report["run"]["cpu_seconds_self"] > 0
    assert report["inputs"] == [video]
    assert (video["codec"], video["width"], video["height"]) == ("h264", 176, 144)
    assert video["num_packets"] >= video["num_key_packets"] >= 1
    assert len(video["sha256"]) == 64


def test_a_commit_that_was_changed_says_so(tmp_path, monkeypatch):
    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.chdir(tmp_path)
    file = tmp_path / "a.py"
    file.write_text("1\n")
    git("init")
    git("add", "a.py")
    git("commit", "-m", "first")
    git("tag", "-a", "v1", "-m", "a tag is no commit")
    clean = _report.commit()
    (tmp_path / "result.json").write_text("{}")  # not tracked
    assert _report.commit() == clean
    file.write_text("2\n")
    assert _report.commit() == f"{clean}-dirty"
    assert len(clean) == 7


@pytest.mark.parametrize(
    "runner", ["vs_reference", "stages", "decode", "serve", "int8", "ensemble_overhead"]
)
def test_reports_of_speed_are_complete(runner):
    """The machine's peaks, what was measured with, the warm-up and the repeats are always given."""
    name = "_reference_run" if runner == "vs_reference" else runner
    tree = ast.parse(Path(_report.__file__).with_name(f"{name}.py").read_text("utf-8"))
    (given,) = (
        {keyword.arg for keyword in node.keywords}
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"write_report", "make_report"}
    )
    assert given >= {"inputs", "warm_up", "repeats", "peaks"}
