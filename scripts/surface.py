"""What the public surface of a source tree answers: record it, and compare two recordings.

    TREE/.venv/bin/python scripts/surface.py record new.json
    python scripts/surface.py compare old.json new.json --allow reasons.txt

A recording is of the tree that the interpreter imports, asked through public names alone. Answers
are compared to the bit; times, places, ports and identities are not. A line of the allow list is a
pattern of paths (`*` is any text), ` # ` and the reason.
"""

import fnmatch
import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import is_dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import typer

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = f"{sys.prefix}/bin/groundserve"
LINES = {
    "exit": """
score
score {clip}
score {clip} --query x --top-k 0 --json
score {clip} --query x --server grpc://127.0.0.1:9 --json
score none.mp4 --query x
score manifest.jsonl --query x
ask {clip} --query x --engines none
build --checkpoint none/none/none --out x
build --checkpoint {digits} --out x --profile best
serve --engines none --http-port 99999
batch none.jsonl --out run
export none --format lmms-eval --out x
eval --top-k 0
train grounding --config none
doctor --results manifest.jsonl
""",
    "commands": """
score {clip} --query seven --top-k 4 --num-frames 16
score {clip} --query seven --top-k 4 --num-frames 16 --json
score {clip} --query seven --jsonl a.jsonl --num-frames 16 --frames frames
score {clip} --query seven --jsonl b.jsonl --num-frames 16 --sampling infer
compare a.jsonl b.jsonl --json
doctor --checkpoint {digits} --json
eval --num-videos 2 --json
""",
    "train": """
train check grounding --config train.toml --json
train grounding --config train.toml --json
train grounding --config train.toml --json --resume
""",
    "batch": """
batch manifest.jsonl --out run --workers 1 --hash-content --num-frames 4 --frames pictures --json
batch manifest.jsonl --out run --workers 1 --hash-content --num-frames 4 --frames pictures --resume
batch status run --json
batch manifest.jsonl --out text --workers 1 --hash-content --checkpoint {vicuna} --max-new-tokens 8
batch status text --json
export run --format lmms-eval --json --out lmms-eval.jsonl
export run --format lmms-eval --order time --top-k 2 --json --out lmms-eval-time.jsonl
export run --format qvhighlights --json --out qvhighlights.jsonl
export run --format openai --json --out openai.jsonl
export run --format openai --images file --frames pictures --json --out openai-files.jsonl
export run --format llava --frames pictures --json --out llava.json
""",
}
"""Commands by section, one after another in a folder; what they leave there is recorded, too."""
VARYING = re.compile(
    r"/(timing_ms|request_id|pid|host|process|time|started|last_heartbeat|slowest|"
    r"((eta|wall|stage|compute|data|sync|core|rows_per)_)?seconds?|core_seconds_error|"
    r"cores_a_gpu|epoch_core_hours)(/|$)|report\.html|/log/|tfevents|/\.metadata"
)
"""Paths whose values differ from run to run."""
TEXT_RULES = {
    r"127\.0\.0\.1:\d+": "<address>",
    r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b": "<uuid>",
    r"\b[0-9a-f]{16}\b": "<id>",
    r"0x[0-9a-f]{6,}": "<at>",
    r"\d+ MiB free": "<size> free",
    r"tfevents\.\S+": "tfevents.<run>",
}
SCORED = [
    *({"selector": one, "top_k": 3} for one in ("spread", "min_gap", "inverse_transform")),
    {"seek": "keyframe", "num_frames": 16},
]
DRAWN = [{"max_new_tokens": 8, "temperature": 0.7, "seed": 3}]
"""Options that are asked beside what the references recorded."""


def list_models(clips: Path) -> dict[str, dict[str, Any]]:
    """Return every model of the fixtures, each with the cases that its reference recorded."""
    # Of this script's tree, also where another is asked; its packages stay those of the other.
    sys.path.insert(0, str(ROOT))
    from tests.support import answer_cases, grounded_cases, reference, vtgllm_cases

    sys.path.remove(str(ROOT))
    videos = {path.stem: path for top in (reference.SET_2, clips) for path in top.glob("*.mp4")}
    found: dict[str, dict[str, Any]] = {}

    def add(model: str, checkpoint: Path, parts: Any, label: str, case: Any) -> None:
        usual = vars(type(case.options)())
        options = {k: v for k, v in vars(case.options).items() if v != usual[k]}
        video = case.path(videos) if hasattr(case, "path") else videos[case.video]
        asked = {"video": str(video), "queries": [case.query], "options": options}
        new = {"checkpoint": str(checkpoint), "parts": parts, "cases": {}}
        found.setdefault(model, new)["cases"][label] = asked

    for number, case in enumerate(reference.ALL_CASES):
        model = f"videoitg/{case.checkpoint.name}"
        add(model, case.checkpoint, {}, f"{number}-{case.video}", case)
    for case in answer_cases.CASES:
        parts = answer_cases.MODELS[case.model]
        add(f"vtimellm/{case.model}", answer_cases.CHECKPOINTS, parts, case.name, case)
    for case in grounded_cases.CASES:
        parts = grounded_cases.PARTS[case.model]
        add(f"grounded_videollm/{case.model}", grounded_cases.WEIGHTS, parts, case.name, case)
    for case in vtgllm_cases.CASES:
        add(f"vtgllm/{case.config}", reference.VTGLLM, case.parts, case.name, case)
    asked = {"video": str(videos["bikes"]), "queries": ["a man", "When is it seen?"]}
    for name, one in found.items():
        for number, options in enumerate(SCORED if name.startswith("videoitg") else DRAWN):
            one["cases"][f"options-{number}"] = {**asked, "options": options}
    return found


def run(folder: Path, *args: object) -> dict[str, Any]:
    """Run a command in a folder; its steps, which tell times, are left out."""
    how: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    done = subprocess.run([PROGRAM, *map(str, args)], cwd=folder, **how)
    said = [line for line in done.stderr.splitlines() if not re.match(r"\[\d+\.\d s\] ", line)]
    return {"code": done.returncode, "stdout": _values(done.stdout), "stderr": said}


def record_commands(section: str, work: Path, clips: Path) -> dict[str, Any]:
    """Run a section's commands in a new folder that has what they read."""
    folder = work / section
    folder.mkdir()
    fixtures = ROOT / "tests" / "fixtures"
    digits = fixtures / "videoitg_ref" / "videoitg-tiny"
    clip = "bikes.mp4"  # in this folder, since ids are made of its name
    (folder / clip).symlink_to(clips / clip)
    asked = [(clip, "a man"), (clip, "When is it seen?"), ("none.mp4", "x"), (clip, "a tree")]
    rows = [{"id": str(i), "video": v, "query": q} for i, (v, q) in enumerate(asked)]
    (folder / "manifest.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    record = {"video": clip, "question": "<image>\nwhen?", "frame_num": [1]}
    (folder / "records.json").write_text(json.dumps([record] * 4))
    (folder / "train.toml").write_text(
        f'init = "{digits}"\nout = "trained"\nprecision = "fp32"\nparallelism = "none"\n'
        'save_every_steps = 2\n[data]\nrecords = "records.json"\nmedia_root = "."\n'
    )
    places = {"clip": clip, "digits": digits, "vicuna": fixtures / "vtimellm" / "checkpoints"}
    lines = LINES[section].strip().splitlines()
    said = {line: run(folder, *line.format(**places).split()) for line in lines}
    return {**said, "files": read_files(folder)}


def record_help(work: Path) -> dict[str, Any]:
    """Record the help of each command that the help of another names."""
    found, waiting = {}, [""]
    while waiting:
        words = waiting.pop()
        found[f"groundserve{words}"] = said = run(work, *words.split(), "--help")
        panel = re.search(r"─ Commands ─.*?╰", str(said["stdout"]), re.DOTALL)
        names = re.findall(r"│ ([a-z][\w-]*)", panel[0]) if panel else []
        waiting += [f"{words} {name}" for name in names]
    return found


def record_api() -> dict[str, Any]:
    """Record each public name, with what a caller reaches by it."""
    import groundserve

    def describe(thing: Any) -> Any:
        if not isinstance(thing, type):
            return repr(thing)
        if issubclass(thing, Exception):  # what else it is decides who catches it
            return [base.__name__ for base in thing.__mro__]
        members = inspect.getmembers(thing, lambda one: not isinstance(one, type))
        return {
            name: str(inspect.signature(one)) if callable(one) else type(one).__name__
            for name, one in [("()", thing), *members]
            if not name.startswith("_")
        }

    return {name: describe(getattr(groundserve, name)) for name in groundserve.__all__}


def record_model(name: str, model: dict[str, Any], work: Path, clips: Path) -> dict[str, Any]:
    """Record one model: built, by command, in process, and from a server."""
    from groundserve import AnswerOptions, Client, Pipeline, ScoreOptions

    family, cases = name.partition("/")[0], model["cases"]
    engines = work / name.replace("/", "-")
    source = ["--checkpoint", model["checkpoint"]]
    for part, paths in model["parts"].items():
        source += [word for path in paths for word in ("--part", f"{part}={path}")]
    found = {"build": run(work, "build", *source, "--out", engines, "--json")}
    found["files"] = read_files(engines)
    verb, kind = ("score", ScoreOptions) if family == "videoitg" else ("ask", AnswerOptions)
    lines = {label: [verb, *_arguments(asked), "--json"] for label, asked in cases.items()}
    line = next(iter(lines.values()))
    found["cli"] = {label: run(work, *one, "--engines", engines) for label, one in lines.items()}
    found["cli"]["checkpoint"] = run(work, *line, *source)
    calls = {k: (one["video"], one["queries"], kind(**one["options"])) for k, one in cases.items()}
    with Pipeline.open(engines) as pipeline:
        found["pipeline"] = _answers(getattr(pipeline, verb), calls)
    with Pipeline.from_checkpoint(model["checkpoint"], parts=model["parts"]) as pipeline:
        found["pipeline of checkpoint"] = _answers(getattr(pipeline, verb), calls)
    serve = [PROGRAM, "serve", "--engines", engines, "--allow-root", clips, "--json"]
    serve += [word for port in ("http", "grpc", "metrics") for word in (f"--{port}-port", "0")]
    with (work / "serve.log").open("a") as log:
        server = subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=log)
    try:
        ready = json.loads(server.stdout.readline())
        with Client(ready["grpc"]) as client:
            found["client"] = _answers(getattr(client, verb), calls)
        found["triton"] = ask_triton(ready["grpc"], family, cases)
        found["cli"]["server"] = run(work, *line, "--server", ready["grpc"])
        with urllib.request.urlopen(ready["metrics"]) as answer:
            metrics = re.findall(r"(?m)^# TYPE (groundserve\S* \S+)", answer.read().decode())
    finally:
        server.terminate()
        code = server.wait()
    found["serve"] = {"ready": ready, "metrics": sorted(metrics), "code": code}
    return found


def ask_triton(address: str, family: str, cases: dict[str, Any]) -> dict[str, Any]:
    """Ask the public model by NVIDIA's client: every case, then wrong requests."""
    import numpy as np
    import tritonclient.grpc as triton

    def infer(**inputs: Any) -> Any:
        tensors = []
        for name, values in inputs.items():
            kind, dtype = ("UINT8", np.uint8) if name == "VIDEO" else ("BYTES", np.object_)
            array = np.array(list(values), dtype)
            tensors.append(triton.InferInput(name, [len(values)], kind))
            tensors[-1].set_data_from_numpy(array)
        server = triton.InferenceServerClient(address.removeprefix("grpc://"))
        answer = server.infer(family, tensors)
        return {one.name: answer.as_numpy(one.name) for one in answer.get_response().outputs}

    requests: dict[str, dict[str, Any]] = {}
    for label, asked in cases.items():
        video, options = Path(asked["video"]).read_bytes(), json.dumps(asked["options"]).encode()
        queries = [query.encode() for query in asked["queries"]]
        requests[label] = {"VIDEO": video, "QUERY": queries, "OPTIONS": [options]}
    good = {"VIDEO": video, "QUERY": [b"x"]}
    requests |= {
        "wrong: no question": {"VIDEO": video},
        "wrong: empty question": {**good, "QUERY": [b""]},
        "wrong: 33 questions": {**good, "QUERY": [b"x"] * 33},
        "wrong: no container": {**good, "VIDEO": b"no video"},
        "wrong: two videos": {**good, "VIDEO_URI": [b"file:///x"]},
        "wrong: unknown option": {**good, "OPTIONS": [b'{"a": 1}']},
        "wrong: option twice": {**good, "OPTIONS": [b'{"num_frames": 8, "num_frames": 9}']},
        "wrong: outside": {"QUERY": [b"x"], "VIDEO_URI": [Path(__file__).as_uri().encode()]},
        "wrong: over http": {"QUERY": [b"x"], "VIDEO_URI": [b"http://127.0.0.1:9/x"]},
    }
    return _answers(lambda label: infer(**requests[label]), {label: (label,) for label in requests})


def _answers(call: Callable[..., Any], asked: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    """Return what a call answers to each; an error is an answer."""
    found: dict[str, Any] = {}
    for label, arguments in asked.items():
        try:
            found[label] = json.loads(json.dumps(call(*arguments), default=_plain))
        except Exception as error:  # noqa: BLE001
            found[label] = {"error": type(error).__name__, "message": str(error)}
    return found


def _plain(value: Any) -> Any:
    """Return what JSON does not know as what it does; floats keep their bits."""
    if hasattr(value, "dtype"):
        return {"dtype": str(value.dtype), "shape": value.shape, "values": value.tolist()}
    if isinstance(value, bytes):
        return _values(value.decode("utf-8", "backslashreplace"))
    return vars(value) if is_dataclass(value) else repr(value)


def _arguments(asked: dict[str, Any]) -> list[str]:
    words = [asked["video"], *(word for one in asked["queries"] for word in ("--query", one))]
    for key, value in asked["options"].items():
        text = ":".join(map(str, value)) if isinstance(value, tuple) else str(value)
        words += [f"--{key.replace('_', '-')}", *([] if value is True else [text])]
    return words


def _values(text: str) -> Any:
    for read in (json.loads, lambda text: [json.loads(line) for line in text.splitlines()]):
        with suppress(ValueError):
            return read(text)
    return text


def read_files(folder: Path, names: str = "*") -> dict[str, Any]:
    """Return what each file holds: text, rows and JSON as values, all else as a hash."""
    found: dict[str, Any] = {}
    for path in filter(Path.is_file, folder.rglob(names)):
        name = str(path.relative_to(folder))
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            rows = sorted(table.to_pylist(), key=lambda row: str(row.get("id")))
            found[name] = {"columns": str(table.schema), "rows": rows}
        elif path.suffix in (".json", ".jsonl", ".pbtxt"):
            # What follows in a public model's configuration, an ensemble's, no caller sees.
            found[name] = _values(path.read_text("utf-8").partition("ensemble_scheduling")[0])
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value and its path, without what differs from run to run."""
    if value and isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flatten(one, f"{path}/{key}")
        return
    if value is not None and VARYING.search(path):
        value = "<varies>"
    for pattern, name in TEXT_RULES.items():
        path = re.sub(pattern, name, path)
        value = re.sub(pattern, name, value) if isinstance(value, str) else value
    yield path, value


app = typer.Typer(help=__doc__)


@app.command()
def record(out: Path, only: str = "", clips: Path = Path(sys.prefix) / "clips") -> None:
    """Write what a tree answers; --only help,vtimellm/stage2 leaves out all else."""
    import groundserve

    tree = Path(groundserve.__file__).resolve().parent.parent
    # One thread sums floats in one order. On a wide screen help is not broken into lines.
    os.environ |= {"OMP_NUM_THREADS": "1", "COLUMNS": "240", "TERM": "dumb", "PYTHONHASHSEED": "0"}
    with tempfile.TemporaryDirectory(prefix="surface-") as folder:
        work, clips = Path(folder), clips.resolve()
        calls: dict[str, tuple[Any, ...]] = {
            "help": (record_help, work),
            "api": (record_api,),
            "tensors": (read_files, tree / "triton_models", "config.pbtxt"),
            **{section: (record_commands, section, work, clips) for section in LINES},
        }
        models = list_models(clips)
        calls |= {name: (record_model, name, one, work, clips) for name, one in models.items()}
        calls = {name: calls[name] for name in only.split(",") if name} or calls
        found = {}
        with ProcessPoolExecutor(2, get_context("spawn"), max_tasks_per_child=1) as pool:
            jobs = {name: pool.submit(*call) for name, call in calls.items()}
            for name, job in jobs.items():
                found |= _answers(job.result, {name: ()})
                print(name, found[name].get("error", ""), flush=True)
    text = json.dumps(found)
    for place in (work, clips, tree, ROOT):
        text = text.replace(str(place), "<place>")
    text = json.dumps(dict(_flatten(json.loads(text))), indent=0, sort_keys=True)
    out.write_text(f"{text}\n", "utf-8")


@app.command()
def compare(old: Path, new: Path, allow: Path | None = None) -> None:
    """Print what differs; ends with 1 if something does that no line allows."""
    lines = allow.read_text("utf-8").splitlines() if allow else []
    allowed = [line.partition(" # ")[0].strip() for line in lines if " # " in line]
    was, now = (json.loads(path.read_text("utf-8")) for path in (old, new))
    counts = Counter({"": 0})
    for path in sorted(was.keys() | now.keys()):
        # As text: NaN is itself, 1 is not 1.0, -0.0 is not 0.0.
        before, after = (json.dumps(one.get(path, "<nothing>")) for one in (was, now))
        if before != after:
            pattern = next((one for one in allowed if fnmatch.fnmatchcase(path, one)), "")
            counts[pattern] += 1
            if not pattern:
                print(f"{path}: {before[:160]} -> {after[:160]}")
    for pattern, count in counts.items():
        print(f"{count} differences: {pattern or 'no line allows them'}")
    sys.exit(counts[""] > 0)


if __name__ == "__main__":
    app()
