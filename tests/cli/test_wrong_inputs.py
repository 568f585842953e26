"""One table of wrong inputs: each is one line on stderr at once, before anything is loaded."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from groundserve._version import __version__
from groundserve.cli.main import main
from groundserve.families.videoitg.spec import VideoITGSpec
from groundserve.manifest import FORMAT_VERSION, Manifest
from groundserve.serving.events import logger as events

# What loads a model, builds an engine, decodes a video or connects to a server.
WORK = (
    "av",
    "engine_build",
    "groundserve.families.videoitg.checkpoint",
    "groundserve.families.videoitg.decoder",
    "onnxruntime",
    "python_backend.pipeline",
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

# Arguments, exit code, and what the message begins with.
TABLE = [
    # The command itself.
    (("nothing",), 2, "No such command 'nothing'."),
    (("--quiet", "doctor", "--verbose"), 2, "give one of --quiet and --verbose, not both"),
    # score: usage, questions.
    (("score", "clip.mp4"), 2, "Missing option '--query'. See: groundserve score --help"),
    (("score", "--query", "x"), 2, "Missing argument "),
    ((*SCORE, "--nothing"), 2, "No such option: --nothing"),
    ((*SCORE, "--top-k", "many"), 2, "Invalid value for '--top-k': "),
    (("score", "clip.mp4", "--query", ""), 2, "--query must not be empty or blank, got ''"),
    ((*SCORE, "--query", " \t"), 2, "--query must not be empty or blank, got ' \\t'"),
    (("score", "clip.mp4", "--query", "\udcff"), 2, "--query must be UTF-8, got '\\udcff'"),
    ((*SCORE, *["--query", "x"] * 32), 2, "--query may be given at most 32 times, got 33"),
    # score: the video.
    (("score", "none.mp4", "--query", "x"), 2, "no such video file: none.mp4"),
    (("score", "clip.mp4/a", "--query", "x"), 2, "no such video file: clip.mp4/a"),
    (("score", "a" * 300, "--query", "x"), 2, "no such video file: aaa"),
    (
        ("score", "folder", "--query", "x"),
        2,
        "the video must be a file, got a folder: folder; for all that is in it: groundserve batch "
        "folder --query TEXT --out DIR",
    ),
    (("score", "pipe", "--query", "x"), 2, "the video must be a regular file, got a pipe or "),
    (("score", "empty.mp4", "--query", "x"), 2, "the video file is empty: empty.mp4"),
    (
        ("score", "https://host/a.mp4?secret", "--query", "x"),
        2,
        "the video must be a file, got a URI (https:); download it, or pipe it into: ",
    ),
    (("score", "s3://a/b.mp4", "--query", "x"), 2, "the video must be a file, got a URI (s3:)"),
    (
        ("score", "file:///a/b.mp4", "--query", "x", "--server", "grpc://127.0.0.1:1"),
        2,
        "the video must be a file, got a URI (file:); name the file itself; one that the server "
        "reads is for Client.score(video_uri=...)",
    ),
    # score: how.
    ((*SCORE, "--num-frames", "0"), 2, "num_frames must be >= 1, got 0"),
    ((*SCORE, "--num-frames", "2000"), 2, "num_frames must be <= 1024"),
    ((*SCORE, "--top-k", "0"), 2, "top_k must be >= 1, got 0"),
    ((*SCORE, "--sample-fps", "0"), 2, "sample_fps must be finite and > 0, got 0.0"),
    ((*SCORE, "--sample-fps", "nan"), 2, "sample_fps must be finite and > 0, got NaN"),
    ((*SCORE, "--sampling", "b"), 2, "sampling must be one of eval, infer, got "),
    ((*SCORE, "--seek", "fast"), 2, "seek must be one of exact, keyframe, got "),
    ((*SCORE, "--selector", "best"), 2, "selector must be one of topk, spread, "),
    ((*SCORE, "--span-threshold", "1.5"), 2, "span_threshold must be in [0, 1], got 1.5"),
    ((*SCORE, "--span-threshold", "nan"), 2, "span_threshold must be in [0, 1], got nan"),
    ((*SCORE, "--span-gap-seconds", "-1"), 2, "span_gap_seconds must be >= 0, got -1.0"),
    ((*SCORE, "--span-gap-seconds", "nan"), 2, "span_gap_seconds must be >= 0, got nan"),
    # score: where results go.
    ((*SCORE, "--jsonl", "none/a.jsonl"), 2, "--jsonl none/a.jsonl: no such folder: none"),
    ((*SCORE, "--jsonl", "folder"), 2, "--jsonl must be a file, got a folder: folder"),
    ((*SCORE, "--jsonl", "clip.mp4/a"), 2, "cannot write --jsonl clip.mp4/a: Not a directory"),
    ((*SCORE, "--jsonl", "./clip.mp4"), 2, "--jsonl must differ from what is read, got clip.mp4"),
    ((*SCORE, "--jsonl", "-"), 2, "--jsonl must name a file, got -"),
    ((*SCORE, "--frames", "-"), 2, "--frames must name a folder, got -"),
    ((*SCORE, "--plot", "a.foo"), 2, "--plot writes PNG: its name must end in .png, got a.foo"),
    ((*SCORE, "--plot", "none/a.png"), 2, "--plot none/a.png: no such folder: none"),
    ((*SCORE, "--contact-sheet", "a"), 2, "--contact-sheet writes PNG: its name must end in "),
    (
        (*SCORE, "--contact-sheet", "a.png", "--plot", "folder/../a.png"),
        2,
        "--plot must differ from --contact-sheet, got folder/../a.png for both",
    ),
    # score: with what.
    ((*SCORE, "--checkpoint", "none"), 2, "checkpoint none: no such directory, and not a hub id"),
    ((*SCORE, "--checkpoint", "clip.mp4"), 2, "checkpoint clip.mp4: must be a directory or a hub"),
    ((*SCORE, "--checkpoint", "folder"), 2, "checkpoint folder: config.json is missing; give"),
    (
        (*SCORE, "--checkpoint", "digits", "--vision-tower", "none"),
        2,
        "checkpoint none: no such directory",
    ),
    (
        (*SCORE, "--checkpoint", "digits", "--device", "tpu"),
        2,
        "profile torch runs on cpu, cuda, got device tpu",
    ),
    ((*SCORE, "--device", "cuda"), 2, "--device goes with --checkpoint"),
    ((*SCORE, "--vision-tower", "."), 2, "--vision-tower goes with --checkpoint"),
    ((*SCORE, "--engines", "none"), 2, "none is no engine directory: no such directory"),
    ((*SCORE, "--engines", "clip.mp4"), 2, "clip.mp4 is no engine directory: it is a file; make"),
    ((*SCORE, "--engines", "folder"), 2, "folder is no engine directory: it has no manifest.json"),
    ((*SCORE, "--engines", "old"), 1, "manifest.json must have format_version"),
    (
        (*SCORE, "--engines", "engines", "--server", "grpc://127.0.0.1:1"),
        2,
        "give one of --engines and --server, not both",
    ),
    ((*SCORE, "--server", "http://127.0.0.1:8000"), 2, "--server must be grpc://HOST:PORT (8001"),
    ((*SCORE, "--server", "grpc://127.0.0.1"), 2, "--server must be grpc://HOST:PORT (8001"),
    ((*SCORE, "--server", "grpc://h:1/x"), 2, "--server must be grpc://HOST:PORT (8001"),
    ((*SCORE, "--server", "127.0.0.1:8001"), 2, "--server must be grpc://HOST:PORT (8001"),
    # ask: what of the video, and in which words.
    (("ask",), 2, "Missing argument "),
    (("ask", "none.mp4", *ASK[2:]), 2, "no such video file: none.mp4"),
    (("ask", "folder", *ASK[2:]), 2, "the video must be a file, got a folder: folder; for all"),
    (("ask", "pipe", *ASK[2:]), 2, "the video must be a regular file, got a pipe or device: pipe;"),
    (("ask", "http://h/a", *ASK[2:]), 2, "the video must be a file, got a URI (http:); download "),
    (("ask", "file:///a", *ASK[2:]), 2, "the video must be a file, got a URI (file:); name the "),
    ((*ASK, "--query", " "), 2, "--query must not be empty or blank, got ' '"),
    ((*HERE, *("--query", "x") * 32), 2, "--query may be given at most 32 times, got 33"),
    (("ask", "clip.mp4", *ASK[4:]), 2, "--task moment needs a question: give --query"),
    (("ask", "clip.mp4", *ASK[4:], "--task", "chat"), 2, "--task chat needs a question: give "),
    (("ask", "clip.mp4", *ASK[4:], "--task", "captions", "--raw"), 2, "--raw needs a question: "),
    (("ask", "clip.mp4", *ASK[4:], "--task", "highlights"), 2, "--task highlights needs a quest"),
    ((*ASK, "--task", "translate"), 2, "task must be one of moment, captions, highlights, "),
    ((*ASK, "--clip-seconds", "5"), 2, "--clip-seconds must be START:END, two numbers such as "),
    ((*ASK, "--clip-seconds", "0:1:2"), 2, "--clip-seconds must be START:END, two numbers such"),
    ((*ASK, "--clip-seconds", "a:b"), 2, "--clip-seconds must be START:END, two numbers such as "),
    ((*ASK, "--clip-seconds=-1:2"), 2, "clip_seconds must be finite with 0 <= start < end, got"),
    ((*ASK, "--clip-seconds", "3:3"), 2, "clip_seconds must be finite with 0 <= start < end, got"),
    ((*ASK, "--clip-seconds", "nan:3"), 2, "clip_seconds must be finite with 0 <= start < end,"),
    ((*ASK, "--num-frames", "0"), 2, "num_frames must be >= 1, got 0"),
    ((*ASK, "--max-new-tokens", "0"), 2, "max_new_tokens must be >= 1, got 0"),
    ((*HERE, "--max-new-tokens", "5000"), 2, "max_new_tokens must be <= 4096 on this server, got"),
    ((*ASK, "--temperature", "-1"), 2, "temperature must be finite and >= 0, got -1.0"),
    ((*ASK, "--temperature", "inf"), 2, "temperature must be finite and >= 0, got Infinity"),
    ((*ASK, "--top-p", "0.5"), 2, "top_p goes with a temperature above 0; without one nothing "),
    ((*ASK, "--temperature", "1", "--top-p", "2"), 2, "top_p must be in (0, 1], got 2.0"),
    ((*ASK, "--temperature", "1", "--seed", "-1"), 2, "seed must be in [0, 2**63), got -1"),
    ((*ASK, "--timeout-seconds", "0"), 2, "timeout_seconds must be > 0 and finite, got 0.0"),
    # ask: where results go.
    ((*ASK, "--plot", "a.jpg"), 2, "--plot writes PNG: its name must end in .png, got a.jpg"),
    ((*ASK, "--srt", "none/a.srt"), 2, "--srt none/a.srt: no such folder: none"),
    ((*ASK, "--srt", "-"), 2, "--srt must name a file, got -"),
    ((*ASK, "--srt", "clip.mp4"), 2, "--srt must differ from what is read, got clip.mp4 for both"),
    ((*ASK, "--srt", "a.png", "--plot", "a.png"), 2, "--plot must differ from --srt, got a.png "),
    # ask: with what.
    (HERE, 2, "give --checkpoint, --engines or --server of a model that answers in text; the one "),
    ((*ASK, "--engines", "engines"), 2, "give one of --engines and --server, not both"),
    ((*HERE, "--server", "h:1"), 2, "--server must be grpc://HOST:PORT (8001"),
    ((*HERE, "--engines", "none"), 2, "none is no engine directory: no such directory"),
    ((*HERE, "--engines", "old"), 1, "manifest.json must have format_version"),
    ((*HERE, "--engines", "engines"), 2, "the family videoitg scores frames: use score, not ask"),
    ((*HERE, "--checkpoint", "none"), 2, "checkpoint none: no such directory, and not a hub id"),
    ((*HERE, "--checkpoint", "digits"), 2, "the family videoitg scores frames: use score, not"),
    (
        (*HERE, "--checkpoint", "digits", "--family", "none"),
        2,
        "--family must be one of videoitg, vtimellm, grounded_videollm, vtgllm, got 'none'",
    ),
    ((*ASK, "--family", "vtimellm"), 2, "--family goes with --checkpoint"),
    ((*ASK, "--part", "clip=x"), 2, "--part goes with --checkpoint"),
    (
        (*HERE, "--checkpoint", "layout", "--part", "clip"),
        2,
        "--part must be NAME=VALUE, such as adapter=./stage2, got 'clip'",
    ),
    (
        (*HERE, "--checkpoint", "layout", "--part", "tower=x"),
        2,
        "--part must name one of clip, base, projector, adapter, antialias, clip_heads in the "
        "family vtimellm, got 'tower'",
    ),
    (
        (*HERE, "--checkpoint", "folder", "--part", "clip=x"),
        2,
        "checkpoint folder: config.json is missing; give the directory that holds it and the "
        ".safetensors files; or say with --family of which family the parts named with --part are",
    ),
    ((*HERE, "--checkpoint", "layout", "--task", "summary"), 2, "vtimellm has the tasks moment, "),
    (
        (*HERE, "--checkpoint", "layout", "--task", "captions"),
        2,
        "--task captions takes no --query; --raw asks in your own words",
    ),
    ((*HERE, "--checkpoint", "layout", "--device", "tpu"), 2, "profile torch runs on cpu, cuda, "),
    ((*SCORE, "--checkpoint", "layout"), 2, "the family vtimellm answers in text: use ask, not "),
    # compare.
    (("compare", "records.jsonl"), 2, "Missing argument "),
    (("compare", "none", "records.jsonl"), 2, "cannot read none: No such file or directory"),
    (("compare", "records.jsonl", "folder"), 2, "cannot read folder: Is a directory"),
    (("compare", *["records.jsonl"] * 2, "--top-k", "0"), 2, "top_k must be >= 1, got 0"),
    # build.
    (("build", "--checkpoint", "digits"), 2, "Missing option '--out'."),
    (("build", "--checkpoint", "none", "--out", "new"), 2, "checkpoint none: no such directory"),
    (("build", "--checkpoint", "folder", "--out", "new"), 2, "checkpoint folder: config.json is "),
    (
        ("build", "--checkpoint", "digits", "--out", "clip.mp4"),
        2,
        "clip.mp4 exists and is not an engine directory; choose another",
    ),
    (
        ("build", "--checkpoint", "digits", "--out", "folder"),
        2,
        "folder exists and is not an engine directory; choose another",
    ),
    (("build", "--checkpoint", "digits", "--out", "none/x"), 2, "cannot write beside none/x: "),
    (
        ("build", "--checkpoint", "digits", "--out", "loop"),
        2,
        "cannot write loop: Too many levels of symbolic links",
    ),
    (
        ("build", "--checkpoint", "digits", "--out", "nowhere"),
        2,
        "cannot write beside nowhere: no such folder: ",
    ),
    ((*BUILD, "--profile", "tpu"), 2, "profile must be one of cpu, torch, gpu, gpu-trt, got 'tpu'"),
    ((*BUILD, "--device", "tpu"), 2, "device must be cpu or cuda, got 'tpu'"),
    ((*BUILD, "--device", "cuda"), 2, "profile cpu runs on cpu, got device cuda"),
    (
        (*BUILD, "--precision", "int3"),
        2,
        "precision must be fp32, bf16, fp16, int8 or int4, got 'int3'",
    ),
    (
        (*BUILD, "--precision", "bf16"),
        2,
        "profile cpu computes in fp32, int8, int4 on cpu, got precision ",
    ),
    (
        (*BUILD, "--profile", "torch", "--precision", "int8"),
        2,
        "profile torch computes in fp32 on cpu, got precision int8",
    ),
    ((*BUILD, "--part", "clip=x"), 2, "--part must name one of none in the family videoitg, got"),
    (
        ("build", "--checkpoint", "layout", "--out", "new", "--vision-tower", "x"),
        2,
        "--vision-tower is no part of the family vtimellm; give --part NAME=VALUE with one of clip",
    ),
    ((*BUILD, "--gpu-arch", "sm_89"), 2, "--gpu-arch is for profiles with TensorRT engines, got "),
    ((*BUILD, "--nvdec-engines", "0"), 2, "Invalid value for '--nvdec-engines': "),
    # serve.
    (("serve",), 2, "Missing option '--engines'."),
    (("serve", "--engines", "none"), 2, "none is no engine directory: no such directory"),
    (("serve", "--engines", "folder"), 2, "folder is no engine directory: it has no manifest"),
    ((*SERVE, "--http-port", "http"), 2, "Invalid value for '--http-port': "),
    ((*SERVE, "--http-port", "99999"), 2, "http_port (--http-port) must be from 0 to 65535"),
    ((*SERVE, "--grpc-port", "-1"), 2, "grpc_port (--grpc-port) must be from 0 to 65535"),
    ((*SERVE, "--grpc-port", "8000"), 2, "http_port and grpc_port (--grpc-port) must differ"),
    ((*SERVE, "--host", "localhost"), 2, "host (--host) must be an IPv4 address"),
    ((*SERVE, "--allow-root", "none"), 2, "an allowed root (--allow-root) must be a folder that"),
    # eval.
    (("eval", "--num-videos", "0"), 2, "num_videos must be >= 1, got 0"),
    (("eval", "--num-frames", "0"), 2, "num_frames must be >= 1, got 0"),
    (("eval", "--top-k", "0"), 2, "top_k must be >= 1, got 0"),
    (("eval", "--seed", "-1"), 2, "seed must be >= 0, got -1"),
    (("eval", "--records", "none"), 2, "--records needs --media-root"),
    (("eval", "--records", "none", "--media-root", "."), 2, "cannot read none: No such file"),
    # train.
    (("train", "nothing"), 2, "No such command 'nothing'."),
    (("train", "grounding"), 2, "Missing option '--config'."),
    (("train", "grounding", "--config", "none"), 2, "cannot read none: No such file or directory"),
    (("train", "check", "--config", "folder"), 2, "cannot read folder: Is a directory"),
    (("train", "check", "grunding", "--config", "x"), 2, "STAGE must be one of projector, images"),
    (("train", "convert", "llava-video", "none", "out"), 2, "no such folder to convert from: none"),
    # doctor.
    (("doctor", "--checkpoint", "none"), 2, "checkpoint none: no such directory"),
    (("doctor", "--vision-tower", "none"), 2, "--vision-tower goes with --checkpoint"),
    (("doctor", "--family", "vtimellm"), 2, "--family goes with --checkpoint"),
    (("doctor", "--part", "clip=x"), 2, "--part goes with --checkpoint"),
    (("doctor", "--activations"), 2, "--activations goes with --checkpoint"),
    (("doctor", "--engines", "none"), 2, "none is no engine directory: no such directory"),
    (("doctor", "--results", "folder"), 2, "cannot read folder: Is a directory"),
]


@pytest.fixture
def places(monkeypatch, tmp_path):
    """Go to a folder with what the table names; nothing that works can be imported from here."""
    for name in WORK:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.chdir(tmp_path)
    Path("clip.mp4").write_bytes(b"\0\0\0\x14ftypisom, and no more: nobody decodes it")
    Path("empty.mp4").touch()
    Path("records.jsonl").write_text('{"doc_id": 0, "index": [25, 0, 50]}\n')
    os.mkfifo("pipe")
    Path("loop").symlink_to("loop")
    Path("nowhere").symlink_to("none/engines")
    Path("folder").mkdir()
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


@pytest.mark.parametrize(
    ("args", "code", "message"), TABLE, ids=[" ".join(row[0])[:60] for row in TABLE]
)
def test_a_wrong_input_is_one_line_at_once(places, monkeypatch, capsys, args, code, message):
    before = tree(places)
    monkeypatch.setattr("sys.argv", ["groundserve", *args])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert said.err.startswith(f"groundserve: error: {message}"), said.err
    assert said.err.count("\n") == 1
    assert said.err.endswith("\n")
    assert ended.value.code == code
    assert said.out == ""
    assert tree(places) == before


def test_the_table_has_every_command():
    commands = {args[0] for args, _, _ in TABLE}
    assert {"score", "ask", "compare", "build", "serve", "eval", "train", "doctor"} <= commands
    assert len({args for args, _, _ in TABLE}) == len(TABLE) >= 40


def test_a_uri_is_not_repeated(places, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["groundserve", "score", "https://h/a?secret", "--query", "x"])
    with pytest.raises(SystemExit):
        main()
    assert "secret" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "args",
    [(*SCORE, "--plot", "a.png"), (*SCORE, "--jsonl", "records.jsonl"), BUILD],
    ids=["new file", "old file", "build"],
)
def test_a_place_that_may_not_be_written_to_is_refused(places, monkeypatch, capsys, args):
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)  # root may write anywhere
    monkeypatch.setattr("sys.argv", ["groundserve", *args])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "Permission denied" in capsys.readouterr().err
