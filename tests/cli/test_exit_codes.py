"""One rule for every command, as docs/score.md has it: 0 done, 1 failed, 2 a wrong command."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cli.command import run_cli
from tests.cli.steps import assert_one_error
from tests.reference import SET_1

CHECKPOINT = str(SET_1 / "videoitg-tiny")
SERVE = ("serve", "--engines", "{engines}", "--metrics-port", "0")


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Call a command in an empty folder with some odd files; returns its code and what it said."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)

    return run_cli


@pytest.fixture
def places(engine_dirs, clips):
    return {
        "engines": engine_dirs["torch"],
        "clip": clips["carphone_pristine"],
    }


WRONG_USAGE = [
    ("score",),
    ("score", "{clip}"),
    ("ask",),
    ("build", "--checkpoint", CHECKPOINT),
    ("serve",),
    ("serve", "--engines", "{engines}", "--http-port", "http"),
    ("doctor", "--nothing"),
    ("compare", "file"),
    ("eval", "--num-videos", "many"),
    ("train", "nothing"),
    ("train", "grounding"),
    ("nothing",),
]


@pytest.mark.parametrize("args", WRONG_USAGE, ids=" ".join)
def test_wrong_usage_is_2(run, places, args):
    code, out, err = run(*[arg.format(**places) for arg in args])
    assert (code, out) == (2, "")
    assert_one_error(err, " --help")


WRONG_INPUT = [
    (("score", "none.mp4", "--query", "x"), "no such video file: none.mp4"),
    (("score", "{clip}", "--query", "x", "--engines", "none"), "none is no engine directory"),
    (("score", "{clip}", "--query", "x", "--engines", "folder"), "it has no manifest.json"),
    (
        ("score", "{clip}", "--query", "x", "--jsonl", "folder"),
        "--jsonl must be a file, got",
    ),
    (("build", "--checkpoint", "none/none/none", "--out", "x"), "no such directory"),
    (("build", "--checkpoint", CHECKPOINT, "--out", "file"), "file exists and is not an engine"),
    (("build", "--checkpoint", CHECKPOINT, "--out", "none/x"), "cannot write beside none/x"),
    (("serve", "--engines", "none"), "none is no engine directory: no such directory; make one"),
    (("serve", "--engines", "folder"), "folder is no engine directory: it has no manifest.json"),
    ((*SERVE, "--http-port", "99999"), "http_port (--http-port) must be from 0 to 65535"),
    ((*SERVE, "--grpc-port", "-1"), "grpc_port (--grpc-port) must be from 0 to 65535, got -1"),
    ((*SERVE, "--metrics-port", "8001"), "grpc_port and metrics_port (--metrics-port) must differ"),
    ((*SERVE, "--host", "localhost"), "host (--host) must be an IPv4 address"),
    ((*SERVE, "--host", "::1"), "host (--host) must be an IPv4 address"),
    ((*SERVE, "--host", "0.0.0.0"), "host (--host) must be a loopback address"),
    ((*SERVE, "--allow-root", "none"), "(--allow-root) must be a folder that exists, got"),
    ((*SERVE, "--allow-root", "file"), "(--allow-root) must be a folder that exists, got"),
    ((*SERVE, "--log-file", "none/log"), "(--log-file) none/log cannot be made: none is no folder"),
    ((*SERVE, "--log-file", "folder"), "(--log-file) folder must be a file"),
    ((*SERVE, "--log-file", "fifo"), "(--log-file) fifo must be a file"),
    ((*SERVE, "--cache-bytes", "5"), "(--cache-bytes) goes with cache_dir (--cache-dir)"),
    ((*SERVE, "--cache-dir", "x", "--cache-bytes", "0"), "(--cache-bytes) must be > 0"),
    ((*SERVE, "--cache-dir", "file"), "the cache directory (--cache-dir)"),
    ((*SERVE, "--cache-dir", "open"), "may be written to by others"),
    ((*SERVE, "--cache-dir", "none/cache"), "which is missing; make that first"),
    (("ask", "{clip}", "--query", "x"), "give --checkpoint, --engines or --server of a model"),
    (("ask", "{clip}", "--query", "x", "--engines", "none"), "none is no engine directory"),
    (("doctor", "--checkpoint", "none"), "no such directory"),
    (("doctor", "--engines", "none"), "none is no engine directory"),
    (("doctor", "--results", "file"), "file holds no records"),
    (("compare", "none", "file"), "cannot read none: No such file or directory"),
    (("eval", "--top-k", "0"), "top_k must be >= 1"),
    (("eval", "--num-videos", "1", "--keep", "file"), "--keep must name an empty or new folder"),
    (("eval", "--records", "none", "--media-root", "."), "cannot read none"),
    (("train", "grounding", "--config", "none"), "cannot read none"),
    (("train", "check", "--config", "none"), "cannot read none"),
    (("train", "convert", "nothing", "folder", "out"), "the set must be one of"),
]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("args", "message"), WRONG_INPUT, ids=lambda value: str(value)[:70])
def test_wrong_input_is_one_line_and_2(run, places, args, message):
    code, out, err = run(*[arg.format(**places) for arg in args])
    assert (code, out) == (2, "")
    assert_one_error(err, message)


@pytest.mark.parametrize("command", ["score", "ask"])
@pytest.mark.parametrize("given", ["notes.mp4", "-"])
def test_what_is_no_video_is_named_before_anything_is_loaded(run, tmp_path, command, given):
    (tmp_path / "notes.mp4").write_text("Minutes of a meeting.")
    said = run(
        *(command, given, "--query", "x", "--server", "grpc://127.0.0.1:9"),
        stdin=b"Minutes of a meeting.",
    )
    name = "<stdin>" if given == "-" else given
    assert (said.code, said.stdout) == (2, "")
    assert said.stderr.startswith(f"groundserve: error: {name}: the video cannot be read: it is ")
    assert said.stderr.count("\n") == 1


def test_nobody_at_the_server_is_1(run, places):
    code, out, err = run("score", places["clip"], "--query", "x", "--server", "grpc://127.0.0.1:9")
    assert (code, out) == (1, "")
    assert_one_error(err, "failed to connect")


@pytest.mark.parametrize("name", ["http", "grpc", "metrics"])
def test_port_in_use_is_1_and_named_with_its_option(run, places, name):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = {"http": 0, "grpc": 0, "metrics": 0, name: taken.getsockname()[1]}
        options = [text for key, port in ports.items() for text in (f"--{key}-port", port)]
        code, out, err = run("serve", "--engines", places["engines"], *options)
    assert (code, out) == (1, "")
    refused = f"cannot listen on 127.0.0.1:{ports[name]}: Address already in use by process"
    assert_one_error(err, f"{refused} {os.getpid()} (")
    assert f"); choose another {name}_port (--{name}-port)" in err


def test_engines_that_do_not_match_are_1(run, tmp_path, places):
    (tmp_path / "folder" / "manifest.json").write_text('{"format_version": 1}')
    for args in (
        ("serve", "--engines", "folder"),
        ("doctor", "--engines", "folder"),
        ("score", places["clip"], "--query", "x", "--engines", "folder"),
    ):
        code, out, err = run(*args)
        assert (code, out) == (1, "")
        assert_one_error(err, "manifest.json must have format_version")


def test_missing_extra_is_1(run, monkeypatch, tmp_path):
    (tmp_path / "run.toml").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "train.loop", None)
    code, out, err = run("train", "grounding", "--config", "run.toml")
    assert (code, out) == (1, "")
    assert_one_error(err, "pip install 'groundserve[train]'")


def test_full_disk_is_1_and_no_traceback(run, monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise OSError(28, "No space left on device", "here")

    monkeypatch.setattr("groundserve.cli.compare.compare_files", refuse)
    code, out, err = run("compare", "file", "file")
    assert (code, out) == (1, "")
    assert_one_error(err, "here: No space left on device")


def test_findings_of_doctor_are_1(run, monkeypatch):
    rows = [("a", "ok", ""), ("b", "fail", "what to do")]
    monkeypatch.setattr("groundserve.cli.doctor.check_machine", lambda: rows)
    code, out, _ = run("doctor", "--json")
    assert code == 1
    assert json.loads(out)["ok"] is False


def findings_of(out):
    return {row["subject"]: row for row in json.loads(out)["findings"]}


def test_doctor_says_what_engines_need_of_shared_memory(run, places, monkeypatch):
    args = ("doctor", "--engines", places["engines"], "--json")
    code, out, _ = run(*args)
    assert code == 0
    assert findings_of(out)["extra train"]["status"] == "ok"
    need = findings_of(out)["shared memory"]
    assert need["status"] == "ok"
    assert re.fullmatch(r"these engines need \d+ MiB of /dev/shm", need["detail"])
    monkeypatch.setenv("GROUNDSERVE_MAX_UPLOAD_BYTES", str(2**49))
    code, out, _ = run(*args)
    assert code == 1
    assert findings_of(out)["shared memory"]["status"] == "fail"
    assert "--shm-size=" in findings_of(out)["shared memory"]["detail"]
    assert findings_of(out)["/dev/shm"]["status"] == "warn"


def test_doctor_gives_the_figures_that_serve_demands(run, places, monkeypatch):
    """Neither counts room that root keeps for itself; both round a need up."""
    args = ("doctor", "--engines", places["engines"], "--json")
    status = SimpleNamespace(f_frsize=4096, f_blocks=2**30, f_bfree=2**29, f_bavail=2**28)
    monkeypatch.setattr("os.statvfs", lambda _: status)
    # The default is a whole number of MiB, and so would be the need.
    monkeypatch.setenv("GROUNDSERVE_MAX_UPLOAD_BYTES", str(2**28 + 1))
    found = findings_of(run(*args)[1])
    assert found["/dev/shm"]["detail"].startswith("1048576 MiB free")
    needed = re.search(r"need (\d+) MiB", found["shared memory"]["detail"])
    status.f_bavail = 0
    refused = findings_of(run(*args)[1])["shared memory"]["detail"]
    assert f"the models need {needed[1]} MiB of shared memory, /dev/shm has 0 MiB" in refused


@pytest.mark.parametrize("args", [("--help",), ("doctor", "--json"), ("compare", "a", "a")])
def test_done_is_0(run, tmp_path, args):
    (tmp_path / "a").write_text('{"doc_id": 0, "index": [25, 0, 50]}\n')
    code, out, _ = run(*args)
    assert code == 0
    assert out


def test_help_tells_the_codes(run):
    _, out, _ = run("--help")
    assert re.search(r"Exit codes: 0 done; 1 failed.*2\s+the command.*130\s+Ctrl-C", out, re.DOTALL)


def test_ctrl_c_before_a_command_runs_is_130(run, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr("groundserve.cli.main._app", interrupt)
    assert run("doctor") == (130, "", "")


def test_ctrl_c_is_130_without_a_traceback():
    command = [sys.executable, "-m", "groundserve.cli.main", "eval", "--num-videos", "1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        program.stderr.readline()  # its first step
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=60)
    # As shells have it: Python ends itself by the signal where it came amid an `exec` of text, as
    # dataclasses have, although the exception was caught.
    code = 128 - program.returncode if program.returncode < 0 else program.returncode
    assert (code, out) == (130, b"")
    assert b"Traceback" not in err


INTERRUPTED = """
import os, signal, sys

class Finder:
    def find_spec(self, name, *_):
        if name == sys.argv[-1]:
            os.kill(os.getpid(), signal.SIGINT)

from groundserve.cli.main import main
assert not {"numpy", "typer"} & set(sys.modules)  # what takes long comes after this
sys.meta_path.insert(0, Finder())
main()
"""


@pytest.mark.parametrize("module", ["typer", "numpy", "rich.table", "torch", "transformers"])
def test_ctrl_c_while_modules_are_imported_is_130(places, module):
    """SIGINT as the command comes to a module, from its first one to those that load a model."""
    command = ("score", places["clip"], "--checkpoint", "digits", "--query", module)
    said = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *map(str, command)], capture_output=True, text=True
    )
    code = 128 - said.returncode if said.returncode < 0 else said.returncode
    assert (code, said.stdout) == (130, "")
    assert "Traceback" not in said.stderr


def test_documented_codes_are_these():
    text = Path(__file__).parents[2].joinpath("docs", "score.md").read_text("utf-8")
    rows = re.findall(r"^\| ([\d, ]+) \| ", text, re.MULTILINE)
    assert {"0", "1", "2", "75", "130, 143"} == set(rows)
