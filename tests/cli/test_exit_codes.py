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

import pytest

from groundserve._version import __version__
from groundserve.engines.manifest import FORMAT_VERSION, Manifest
from groundserve.families.videoitg.plan import VideoITGSpec
from groundserve.serving.events import logger as events
from tests.cli.command import MP4, run_cli
from tests.cli.steps import assert_one_error, without_steps

# What loads a model, builds an engine, decodes a video or connects to a server.
WORK = (
    "av",
    "engine_build",
    "groundserve.families.videoitg.checkpoint",
    "groundserve.families.videoitg.decoder",
    "onnxruntime",
    "torch",
    "train.check",
    "train.loop",
    "tritonclient",
)
SCORE = ("score", "clip.mp4", "--query", "x")
BUILD = ("build", "--checkpoint", "digits", "--out", "new")
ASK = ("ask", "clip.mp4", "--query", "x", "--server", "grpc://127.0.0.1:1")
HERE = ("ask", "clip.mp4", "--query", "x")
SERVE = ("serve", "--engines", "engines", "--metrics-port", "0")

# Arguments, and what the message begins with.
TABLE = [
    # The command itself.
    (("nothing",), "No such command 'nothing'."),
    (("--quiet", "doctor", "--verbose"), "give one of --quiet and --verbose, not both"),
    # score: usage, questions.
    (("score", "clip.mp4"), "Missing option '--query'. See: groundserve score --help"),
    ((*SCORE, "--nothing"), "No such option: --nothing"),
    ((*SCORE, "--top-k", "many"), "Invalid value for '--top-k': "),
    (("score", "clip.mp4", "--query", ""), "--query must not be empty or blank, got ''"),
    (("score", "clip.mp4", "--query", "\udcff"), "--query must be UTF-8, got '\\udcff'"),
    ((*SCORE, *["--query", "x"] * 32), "--query may be given at most 32 times, got 33"),
    # score: the video.
    (("score", "none.mp4", "--query", "x"), "no such video file: none.mp4"),
    (
        ("score", "folder", "--query", "x"),
        "the video must be a file, got a folder: folder; for all that is in it: groundserve batch "
        "folder --query TEXT --out DIR",
    ),
    (("score", "pipe", "--query", "x"), "the video must be a regular file, got a pipe or "),
    (("score", "empty.mp4", "--query", "x"), "the video file is empty: empty.mp4"),
    (
        ("score", "https://host/a.mp4?secret", "--query", "x"),
        "the video is a URL whose host may not be fetched from; allow it with --allow-host host, "
        "or download the file, or pipe it into: groundserve score -",
    ),
    (
        ("score", "http://host:81/a.mp4", "--query", "x", "--allow-host", "host:81"),
        "the video is a URL whose host may not be fetched from; allow it with --allow-host "
        "http://host:81, or",
    ),
    (
        ("score", "https://me:secret@host/a.mp4", "--query", "x", "--allow-host", "*"),
        "the video's URL may not be fetched: it must be plain, such as ",
    ),
    (
        ("score", "https://10.0.0.1/a.mp4", "--query", "x", "--allow-host", "*"),
        "the video cannot be fetched: no public host (or one of --allow-network) sent it whole",
    ),
    (
        ("score", "s3://host/a.mp4?secret", "--query", "x"),
        "the video must be a file, got a URI (s3:); download it, or pipe it into: ",
    ),
    (
        ("score", "file:///a/b.mp4", "--query", "x", "--server", "grpc://127.0.0.1:1"),
        "the video must be a file, got a URI (file:); name the file itself; one that the server "
        "reads is for Client.score(video_uri=...)",
    ),
    # score: how.
    ((*SCORE, "--num-frames", "0"), "num_frames must be >= 1, got 0"),
    ((*SCORE, "--sample-fps", "nan"), "sample_fps must be finite and > 0, got NaN"),
    ((*SCORE, "--sampling", "b"), "sampling must be one of eval, infer, got "),
    ((*SCORE, "--span-threshold", "nan"), "span_threshold must be in [0, 1], got nan"),
    ((*SCORE, "--span-gap-seconds", "-1"), "span_gap_seconds must be >= 0, got -1.0"),
    # score: where results go.
    ((*SCORE, "--jsonl", "none/a.jsonl"), "--jsonl none/a.jsonl: no such folder: none"),
    ((*SCORE, "--jsonl", "./clip.mp4"), "--jsonl must differ from what is read, got clip.mp4"),
    ((*SCORE, "--plot", "a.foo"), "--plot writes PNG: its name must end in .png, got a.foo"),
    ((*SCORE, "--frames-format", "jpeg"), "--frames-format goes with --frames"),
    ((*SCORE, "--frames", "clip.mp4/a"), "cannot write frames to clip.mp4/a: Not a directory"),
    # score: with what.
    ((*SCORE, "--checkpoint", "none"), "checkpoint none: no such directory, and not a hub id"),
    ((*SCORE, "--checkpoint", "folder"), "checkpoint folder: config.json is missing; give"),
    (
        (*SCORE, "--checkpoint", "digits", "--vision-tower", "none"),
        "checkpoint none: no such directory",
    ),
    (
        (*SCORE, "--checkpoint", "digits", "--device", "tpu"),
        "profile torch runs on cpu, cuda, got device tpu",
    ),
    ((*SCORE, "--vision-tower", "."), "--vision-tower goes with --checkpoint"),
    ((*SCORE, "--engines", "none"), "none is no engine directory: no such directory"),
    ((*SCORE, "--engines", "folder"), "folder is no engine directory: it has no manifest.json"),
    (
        (*SCORE, "--engines", "engines", "--server", "grpc://127.0.0.1:1"),
        "give one of --engines and --server, not both",
    ),
    ((*SCORE, "--server", "http://127.0.0.1:8000"), "--server must be grpc://HOST:PORT (8001"),
    # ask: what of the video, and in which words.
    (("ask", "clip.mp4", *ASK[4:]), "--task moment needs a question: give --query"),
    (("ask", "clip.mp4", *ASK[4:], "--task", "captions", "--raw"), "--raw needs a question: "),
    ((*ASK, "--task", "translate"), "task must be one of moment, captions, highlights, "),
    ((*ASK, "--clip-seconds", "5"), "--clip-seconds must be START:END, two numbers such as "),
    ((*ASK, "--clip-seconds=-1:2"), "clip_seconds must be finite with 0 <= start < end, got"),
    ((*HERE, "--max-new-tokens", "5000"), "max_new_tokens must be <= 4096 on this server, got"),
    ((*ASK, "--top-p", "0.5"), "top_p goes with a temperature above 0; without one nothing "),
    ((*ASK, "--timeout-seconds", "0"), "timeout_seconds must be > 0 and finite, got 0.0"),
    # ask: where results go.
    ((*ASK, "--srt", "none/a.srt"), "--srt none/a.srt: no such folder: none"),
    ((*ASK, "--srt", "clip.mp4"), "--srt must differ from what is read, got clip.mp4 for both"),
    # ask: with what.
    ((*HERE, "--engines", "engines"), "the family videoitg scores frames: use score, not ask"),
    (
        (*HERE, "--checkpoint", "digits", "--family", "none"),
        "--family must be one of videoitg, vtimellm, grounded_videollm, vtgllm, got 'none'",
    ),
    ((*ASK, "--family", "vtimellm"), "--family goes with --checkpoint"),
    (
        (*HERE, "--checkpoint", "layout", "--part", "clip"),
        "--part must be NAME=VALUE, such as adapter=./stage2, got 'clip'",
    ),
    (
        (*HERE, "--checkpoint", "layout", "--part", "tower=x"),
        "--part must name one of clip, base, projector, adapter, antialias, clip_heads in the "
        "family vtimellm, got 'tower'",
    ),
    (
        (*HERE, "--checkpoint", "folder", "--part", "clip=x"),
        "checkpoint folder: config.json is missing; give the directory that holds it and the "
        ".safetensors files; or say with --family of which family the parts named with --part are",
    ),
    ((*HERE, "--checkpoint", "layout", "--task", "summary"), "vtimellm has the tasks moment, "),
    ((*SCORE, "--checkpoint", "layout"), "the family vtimellm answers in text: use ask, not "),
    # compare.
    (("compare", "none", "records.jsonl"), "cannot read none: No such file or directory"),
    # build.
    (("build", "--checkpoint", "digits"), "Missing option '--out'."),
    (("build", "--checkpoint", "none", "--out", "new"), "checkpoint none: no such directory"),
    (
        ("build", "--checkpoint", "digits", "--out", "folder"),
        "folder exists and is not an engine directory; choose another",
    ),
    (("build", "--checkpoint", "digits", "--out", "none/x"), "cannot write beside none/x: "),
    (
        ("build", "--checkpoint", "digits", "--out", "loop"),
        "cannot write loop: Too many levels of symbolic links",
    ),
    (
        ("build", "--checkpoint", "digits", "--out", "nowhere"),
        "cannot write beside nowhere: no such folder: ",
    ),
    ((*BUILD, "--profile", "gpu-trt"), "the profile gpu-trt is called gpu now"),
    ((*BUILD, "--profile", "tpu"), "profile must be one of cpu, torch, vllm, gpu, gpu-trtllm, got"),
    *(
        ((*BUILD, "--precision", precision), "profile cpu computes in fp32, int8, int4 on cpu, got")
        for precision in ("int3", "bf16")
    ),
    (
        ("build", "--checkpoint", "layout", "--out", "new", "--vision-tower", "x"),
        "--vision-tower is no part of the family vtimellm; give --part NAME=VALUE with one of clip",
    ),
    ((*BUILD, "--gpu-arch", "sm_89"), "--gpu-arch is for profiles with TensorRT engines, got "),
    # serve.
    (("serve",), "Missing option '--engines'."),
    (("serve", "--engines", "folder"), "folder is no engine directory: it has no manifest"),
    ((*SERVE, "--http-port", "http"), "Invalid value for '--http-port': "),
    ((*SERVE, "--http-port", "99999"), "http_port (--http-port) must be from 0 to 65535"),
    ((*SERVE, "--http-port", "8001"), "http_port and grpc_port (--grpc-port) must differ"),
    ((*SERVE, "--max-server-memory", "0"), "max_server_memory (--max-server-memory) must be > 0"),
    ((*SERVE, "--allow-root", "none"), "an allowed root (--allow-root) must be a folder that"),
    ((*SERVE, "--host", "0.0.0.0"), "host (--host) must be a loopback address"),
    (
        (*SERVE, "--log-file", "none/log"),
        "the log file (--log-file) none/log cannot be written to: No such file",
    ),
    ((*SERVE, "--log-file", "pipe"), "the log file (--log-file) pipe cannot be written to"),
    ((*SERVE, "--cache-bytes", "5"), "cache_bytes (--cache-bytes) goes with cache_dir"),
    (
        (*SERVE, "--cache-dir", "x", "--cache-bytes", "0"),
        "cache_bytes (--cache-bytes) must be > 0",
    ),
    ((*SERVE, "--cache-dir", "clip.mp4"), "the cache directory (--cache-dir)"),
    ((*SERVE, "--cache-dir", "open"), "the cache directory (--cache-dir) "),
    ((*SERVE, "--cache-dir", "none/cache"), "the cache directory (--cache-dir)"),
    # eval.
    (("eval", "--num-videos", "many"), "Invalid value for '--num-videos': "),
    (("eval", "--num-videos", "1", "--keep", "clip.mp4"), "--keep must name an empty or new "),
    (("eval", "--records", "none"), "--records needs --media-root"),
    # train.
    (("train", "nothing"), "No such command 'nothing'."),
    (("train", "grounding", "--config", "none"), "cannot read none: No such file or directory"),
    (("train", "check", "grunding", "--config", "x"), "STAGE must be one of projector, images"),
    (("train", "convert", "llava-video", "none", "out"), "no such folder to convert from: none"),
    # doctor.
    (("doctor", "--part", "clip=x"), "--part goes with --checkpoint"),
    (("doctor", "--results", "empty.mp4"), "empty.mp4 holds no records"),
]


@pytest.fixture
def untouched(monkeypatch, tmp_path):
    """Go to a folder with what the table names; nothing that works can be imported from here."""
    for name in WORK:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.chdir(tmp_path)
    Path("clip.mp4").write_bytes(MP4)
    Path("empty.mp4").touch()
    Path("records.jsonl").write_text('{"doc_id": 0, "index": [25, 0, 50]}\n')
    os.mkfifo("pipe")
    Path("loop").symlink_to("loop")
    Path("nowhere").symlink_to("none/engines")
    Path("folder").mkdir()
    Path("open").mkdir()
    Path("open").chmod(0o777)
    Path("folder", "file").touch()
    Path("engines").mkdir()
    Path("engines", "manifest.json").write_text(manifest().to_json())
    Path("old").mkdir()
    Path("old", "manifest.json").write_text('{"format_version": 1}')
    make_text_layout(Path("layout"))
    yield tmp_path
    events.handlers.clear()  # those of `serve` write to this test's stderr


def make_text_layout(folder: Path) -> None:
    """Lay out what is recognised as a family's that answers in text; nothing of it can be read."""
    for name in ("clip", "vicuna", "vtimellm-vicuna-stage1", "vtimellm-vicuna-stage2"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text("{}")
    (folder / "clip" / "ViT.pt").touch()
    (folder / "vtimellm-vicuna-stage1" / "mm_projector.bin").touch()
    (folder / "vtimellm-vicuna-stage2" / "adapter_config.json").write_text("{}")


def manifest() -> Manifest:
    """Return one that this version can serve; its files are never looked at here."""
    return Manifest(
        format_version=FORMAT_VERSION,
        family="videoitg",
        groundserve_version=__version__,
        profile="torch",
        device="cpu",
        precision="fp32",
        model=VideoITGSpec(
            image_size=28,
            side=2,
            vision_hidden_size=8,
            vision_token_num=16,
            max_tokens=64,
            pad_token_id=0,
        ),
        checkpoint={"name": "tiny", "sha256": "1"},
        source_config={},
        builder={},
        files={},
    )


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of all that is there."""
    return {
        str(path): (status.st_size, status.st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        for status in [path.lstat()]
    }


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("args", "message"), TABLE, ids=[" ".join(row[0])[:60] for row in TABLE])
def test_wrong_input_is_one_line_and_2(untouched, args, message):
    """At once, before anything is loaded or written."""
    before = tree(untouched)
    code, out, err = run_cli(*args)
    said = without_steps(err)  # `serve` says one before it looks at places to write to
    assert said.startswith(f"groundserve: error: {message}"), err
    assert said.count("\n") == 1
    assert (code, out) == (2, "")
    assert tree(untouched) == before


def test_a_uri_is_not_repeated(untouched):
    assert "secret" not in run_cli("score", "https://h/a?secret", "--query", "x").stderr


@pytest.mark.parametrize(
    "args",
    [(*SCORE, "--plot", "a.png"), (*SCORE, "--jsonl", "records.jsonl"), BUILD],
    ids=["new file", "old file", "build"],
)
def test_a_place_that_may_not_be_written_to_is_refused(untouched, monkeypatch, args):
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)  # root may write anywhere
    code, _, err = run_cli(*args)
    assert code == 2
    assert "Permission denied" in err


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Call a command in an empty folder with some odd files; returns its code and what it said."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    return run_cli


@pytest.fixture
def places(engine_dirs, clips):
    return {
        "engines": engine_dirs["torch"],
        "clip": clips["carphone_pristine"],
    }


@pytest.mark.parametrize("command", ["score", "ask"])
@pytest.mark.parametrize("given", ["notes.mp4", "cut.mp4", "-"])
def test_what_is_no_video_is_named_before_anything_is_loaded(run, tmp_path, clips, command, given):
    (tmp_path / "notes.mp4").write_text("Minutes of a meeting.")
    # A download that did not end: its index would have stood at the end.
    (tmp_path / "cut.mp4").write_bytes(clips["vfr"].read_bytes()[:3000])
    said = run(
        *(command, given, "--query", "x", "--server", "grpc://127.0.0.1:9"),
        stdin=b"Minutes of a meeting.",
    )
    name = "<stdin>" if given == "-" else given
    assert (said.code, said.stdout) == (2, "")
    assert said.stderr.startswith(f"groundserve: error: {name}: the video cannot be read: ")
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
    monkeypatch.delitem(sys.modules, "groundserve.cli.train_run", raising=False)
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


def test_help_tells_the_codes(run):
    _, out, _ = run("--help")
    assert re.search(r"Exit codes: 0 done; 1 failed.*2\s+the command.*130\s+Ctrl-C", out, re.DOTALL)


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


@pytest.mark.parametrize("module", ["typer", "torch"])
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
