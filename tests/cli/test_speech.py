"""What every command takes and says alike: --version, -h, --quiet, --json errors, odd names."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from groundserve._version import __version__
from groundserve.cli.main import main
from groundserve.errors import UnavailableError
from groundserve.limits import Limits
from groundserve.results import build_score_result
from tests.cli.command import MP4
from tests.cli.steps import assert_one_error, read_steps
from tests.support.results import make_info

COMMANDS = [
    *(["score"], ["ask"], ["build"], ["serve"], ["doctor"], ["compare"], ["export"], ["eval"]),
    *(["train", name] for name in ("projector", "images", "video", "grounding", "check")),
    ["train", "convert"],
]
ESCAPES = "\x1b[2J\x9b\u202e"


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Call a command in an empty folder; returns its code and what it said."""
    monkeypatch.chdir(tmp_path)

    def call(*args):
        monkeypatch.setattr("sys.argv", ["groundserve", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return call


class Scorer:
    """Answers at once, and keeps the bytes of the videos that it is asked about."""

    def __init__(self, error=None):
        self.videos = []
        self.error = error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def score(self, video, queries, options, *, span_threshold, span_gap_seconds):
        if self.error:
            raise self.error
        self.videos.append(Path(video).read_bytes())
        indices, seconds = np.arange(2), np.arange(2.0)
        logits = np.zeros((len(queries), 2), np.float32)
        return build_score_result(
            queries,
            video=str(video),
            info=make_info(
                num_source_frames=2,
                duration_seconds=2.0,
                engine={"note": "a note of " + 30 * "many words "},
            ),
            frame_indices=indices,
            pts_seconds=seconds,
            frame_logits=logits,
            frame_scores=logits + 0.5,
            selected_frames=np.tile(indices, (len(queries), 1)),
            span_threshold=span_threshold,
            span_gap_seconds=span_gap_seconds,
        )


@pytest.fixture
def scorer(monkeypatch):
    fake = Scorer()
    monkeypatch.setattr("groundserve.cli.score.open_scorer", lambda *_, **__: fake)
    return fake


def pipe(monkeypatch, data, *, is_terminal=False):
    stdin = SimpleNamespace(buffer=BytesIO(data), isatty=lambda: is_terminal)
    monkeypatch.setattr("sys.stdin", stdin)


def test_version(run):
    assert run("--version") == (0, f"groundserve {__version__}\n", "")


@pytest.mark.parametrize("command", [[], ["train"], *COMMANDS], ids=" ".join)
def test_h_is_help(run, command):
    code, out, err = run(*command, "-h")
    assert (code, err) == (0, "")
    assert " ".join(["Usage: groundserve", *command, "[OPTIONS]"]) in out
    assert (code, out, err) == run(*command, "--help")


@pytest.mark.parametrize("args", [("--quiet", "score"), ("score", "--quiet")])
def test_quiet_is_no_progress_and_no_notes(run, scorer, tmp_path, args):
    (tmp_path / "a.mp4").write_bytes(MP4)
    code, out, err = run(*args, "a.mp4", "--query", "x", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["num_source_frames"] == 2
    scorer.error = UnavailableError("errors are said all the same")
    code, _, err = run(*args, "a.mp4", "--query", "x")
    assert (code, err) == (1, "groundserve: error: errors are said all the same\n")


def test_without_quiet_a_note_is_one_line(run, scorer, tmp_path):
    (tmp_path / "a.mp4").write_bytes(MP4)
    code, _, err = run("score", "a.mp4", "--query", "x")
    assert code == 0
    note = err.splitlines()[-1]
    assert note.startswith("note: a note of many words")
    assert note.count("many words") == 30
    assert [step for _, step in read_steps(err)] == ["loading", "scoring"]


@pytest.mark.parametrize("shell", ["bash"])
def test_completion_is_offered_without_torch(shell):
    code = (
        "import sys; from groundserve.cli.main import main\n"
        "sys.argv = ['groundserve']\n"
        "try: main()\n"
        "finally: sys.stderr.write(str('torch' in sys.modules))"
    )
    env = {
        "_GROUNDSERVE_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": "groundserve do",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "COMP_WORDS": "groundserve do",
        "COMP_CWORD": "1",
    }
    said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert said.returncode == 0
    assert "doctor" in said.stdout
    assert "compare" not in said.stdout
    assert said.stderr == "False"


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (
            ("compare", "none", "none", "--json"),
            {
                "type": "InvalidRequestError",
                "message": "cannot read none: No such file or directory",
                "exit_code": 2,
            },
        ),
        (
            ("eval", "--json", "--nothing"),
            {
                "type": "UsageError",
                "message": "No such option: --nothing. See: groundserve eval --help",
                "exit_code": 2,
            },
        ),
    ],
)
def test_an_error_is_json_too(run, args, error):
    code, out, err = run(*args)
    assert json.loads(out) == {"error": {**error, "request_id": None}}
    assert out.count("\n") == 1
    assert code == error["exit_code"]
    assert_one_error(err, error["message"])


def test_a_failed_request_has_its_id(run, scorer, tmp_path):
    (tmp_path / "a.mp4").write_bytes(MP4)
    scorer.error = UnavailableError("try again")
    scorer.error.request_id = "abc"
    code, out, _ = run("score", "a.mp4", "--query", "x", "--json")
    assert code == 1
    assert json.loads(out)["error"] == {
        "type": "UnavailableError",
        "message": "try again",
        "exit_code": 1,
        "request_id": "abc",
    }


def test_a_video_comes_through_stdin(run, scorer, monkeypatch):
    pipe(monkeypatch, MP4)
    code, out, _ = run("score", "-", "--query", "x", "--json", "--jsonl", "a.jsonl")
    assert code == 0
    assert scorer.videos == [MP4]
    assert json.loads(out)["video"] == "<stdin>"
    assert json.loads(Path("a.jsonl").read_text())["video_path"] == "<stdin>"


def test_videos_through_stdin_are_told_apart_by_their_bytes(run, scorer, monkeypatch):
    """Called `<stdin>` all of them, the second would be refused, or replace the first."""
    codes = []
    for data in (MP4, MP4 + b"and more", MP4):
        pipe(monkeypatch, data)
        codes.append(run("score", "-", "--query", "x", "--jsonl", "a.jsonl")[0])
    assert codes == [0, 0, 2]
    ids = [json.loads(line)["doc_id"] for line in Path("a.jsonl").read_text().splitlines()]
    # The documented rule: the bytes' SHA-256 and the name stand for the path.
    identity = f"{hashlib.sha256(MP4).hexdigest()}/stdin\0x"
    assert ids[0] == f"stdin-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    assert len(set(ids)) == 2


@pytest.mark.parametrize(
    ("data", "is_terminal", "message"),
    [
        (b"", False, "the video from stdin is empty"),
        (b"12345", False, "must be at most 4 bytes (max_upload_bytes); give the file by its name"),
        (b"1", True, "which is a terminal or closed; use: groundserve score - ... < FILE"),
    ],
)
def test_what_stdin_may_not_be(run, scorer, monkeypatch, data, is_terminal, message):
    monkeypatch.setattr("groundserve.cli._checks.Limits", lambda: replace(Limits(), **SMALL))
    pipe(monkeypatch, data, is_terminal=is_terminal)
    code, _, err = run("score", "-", "--query", "x")
    assert code == 2
    assert_one_error(err, message)
    assert scorer.videos == []


SMALL = {"max_upload_bytes": 4}


def test_pictures_are_drawn_of_a_video_from_stdin(run, monkeypatch, clips):
    """The shipped checkpoint by its name, from the bytes to the pictures."""
    pipe(monkeypatch, clips["carphone_pristine"].read_bytes())
    code, out, err = run(
        *("score", "-", "--query", "a car", "--checkpoint", "digits", "--num-frames", "4"),
        *("--contact-sheet", "sheet.png", "--plot", "plot.PNG", "--json"),
    )
    assert code == 0, err
    answer = json.loads(out)
    assert answer["engine"]["checkpoint"] == "digits"
    assert answer["video"] == "<stdin>"
    assert Path("sheet.png").stat().st_size > 1000
    assert Path("plot.PNG").stat().st_size > 1000


def test_a_gpu_that_is_not_there_is_no_traceback(run, monkeypatch, tmp_path):
    (tmp_path / "a.mp4").write_bytes(MP4)
    monkeypatch.setattr("groundserve.scoring.opener.current_gpu_arch", lambda: None)
    args = ("score", "a.mp4", "--query", "x", "--checkpoint", "digits", "--device", "cuda")
    code, _, err = run(*args)
    assert code == 1
    assert_one_error(err, "--device cuda: PyTorch finds no GPU on this machine")


@pytest.mark.parametrize("name", ["[bold]x.mp4", "[b].mp4", "😀 b.mp4", "b" * 200 + ".mp4"])
def test_a_name_is_shown_as_it_is(run, scorer, tmp_path, name):
    (tmp_path / name).write_bytes(MP4)
    query = f"{name} [/bold] [/] :smile:"
    code, out, err = run("score", name, "--query", query)
    assert code == 0, err
    assert out.startswith(f"{name}: 2 frames")
    assert f"\n{query}\n" in out


@pytest.mark.parametrize("name", [f"{ESCAPES}.mp4", "a\nb.mp4"])
def test_a_name_does_not_steer_the_terminal(run, scorer, tmp_path, name):
    said = run("score", name, "--query", "x")
    (tmp_path / name).write_bytes(MP4)
    said += run("score", name, "--query", name)
    assert [code for code in said if isinstance(code, int)] == [2, 0]
    text = "".join(part for part in said if isinstance(part, str))
    assert not set(text) & set(ESCAPES[:1] + ESCAPES[-2:])
    assert text.count(ascii(name)[1:-1]) == (3 if name.startswith("\x1b") else 2)
