"""What the public surface of a source tree answers: record it, and compare two recordings.

    python scripts/surface.py record --tree TREE --python TREE/.venv/bin/python --out new.json
    python scripts/surface.py compare old.json new.json --allow reasons.txt

A recording is made through public names alone: commands, `groundserve.__all__`, tensors of the
public models. So it can be made of an older tree, which is asked this script's cases. Answers are
compared to the bit; times, places, ports and identities are left out. A line of the allow list is a
pattern of paths of differences (`*` is any text), ` # ` and the reason.
"""

import argparse
import fnmatch
import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LINES = {
    "exit": """
score
nothing
score {clip}
score {clip} --query x --engines none
score {clip} --query x --top-k 0 --json
score {clip} --query x --sample-fps nan --json
score {clip} --query x --selector best --json
score {clip} --query x --server grpc://127.0.0.1:9 --json
score none.mp4 --query x
score manifest.jsonl --query x
ask {clip} --query x
ask {clip} --query x --engines none
build --checkpoint none/none/none --out x
build --checkpoint {digits} --out manifest.jsonl
build --checkpoint {digits} --out x --profile best
serve --engines .
serve --engines none --http-port 99999
batch none.jsonl --out run
batch manifest.jsonl --out .
export none --format lmms-eval --out x
compare none none
eval --top-k 0
train grounding --config none
doctor --engines none
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
OF_MODELS = ("build", "cli", "pipeline", "client", "triton")
SECTIONS = ("help", "api", "tensors", *LINES, *OF_MODELS)
VARYING = re.compile(
    r"timing_ms|request_id|pid|host|process|time|started|last_heartbeat|slowest|"
    r"(|eta_|wall_|stage_|compute_|data_|sync_|core_|rows_per_)seconds?|core_seconds_error|cores_a_gpu|"
    r"epoch_core_hours|.*report\.html|.*/log/.*|.*tfevents.*|.*/\.metadata"
)
"""Keys, and names of files, whose values differ from run to run."""
TEXT_RULES = {
    r"127\.0\.0\.1:\d+": "<address>",
    r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b": "<uuid>",
    r"\b[0-9a-f]{16}\b": "<id>",
    r"0x[0-9a-f]{6,}": "<at>",
    r"\d+ MiB free": "<size> free",
    r"tfevents\.\S+": "tfevents.<run>",
}
DRAWN = {"max_new_tokens": 8, "temperature": 0.7, "seed": 3}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "videoitg/videoitg-tiny": [
        *({"selector": one, "top_k": 3} for one in ("spread", "min_gap", "inverse_transform")),
        {"seek": "keyframe", "num_frames": 16},
    ],
    "vtimellm/stage3": [DRAWN],
    "grounded_videollm/phi3.5": [DRAWN],
    "vtgllm/interpolation": [{**DRAWN, "num_frames": 8}],
}
"""Asked beside what is recorded of the references."""


def models(clips: Path) -> dict[str, dict[str, Any]]:
    """Return every model of the fixtures, each with the cases that its reference recorded."""
    # Of this script's tree, also where another is asked; its packages stay those of the other.
    sys.path.insert(0, str(ROOT))
    from tests.support import answer_cases, grounded_cases, reference, vtgllm_cases

    sys.path.remove(str(ROOT))
    videos = {path.stem: path for top in (reference.SET_2, clips) for path in top.glob("*.mp4")}
    found: dict[str, dict[str, Any]] = {}

    def add(model: str, checkpoint: Path, parts: Any, label: str, case: Any) -> None:
        new = {"checkpoint": str(checkpoint), "parts": parts, "cases": {}}
        usual = vars(type(case.options)())
        options = {k: v for k, v in vars(case.options).items() if v != usual[k]}
        video = case.path(videos) if hasattr(case, "path") else videos[case.video]
        asked = {"video": str(video), "queries": [], "options": options}
        found.setdefault(model, new)["cases"].setdefault(label, asked)["queries"].append(case.query)

    for number, case in enumerate(reference.ALL_CASES):
        label = f"{case.video}-{case.sampling}-{case.num_frames}-{case.sample_fps}"
        if len(case.frame_indices) * (case.grid or 0) ** 2 + len(case.kept_ids or ()) > 701:
            label += f"-{number}"  # too long, and so is what is asked together with it
        elif not case.query:
            label += "-blank"  # which the command line refuses
        add(f"videoitg/{case.checkpoint.name}", case.checkpoint, {}, label, case)
    for case in answer_cases.CASES:
        parts = answer_cases.MODELS[case.model]
        add(f"vtimellm/{case.model}", answer_cases.CHECKPOINTS, parts, case.name, case)
    for case in grounded_cases.CASES:
        parts = grounded_cases.PARTS[case.model]
        add(f"grounded_videollm/{case.model}", grounded_cases.WEIGHTS, parts, case.name, case)
    for case in vtgllm_cases.CASES:
        add(f"vtgllm/{case.config}", reference.VTGLLM, case.parts, case.name, case)
    asked = {"video": str(videos["bikes"]), "queries": ["a man", "When is it seen?"]}
    for name, all_options in OPTIONS.items():
        for number, options in enumerate(all_options):
            found[name]["cases"][f"options-{number}"] = {**asked, "options": options}
    return found


@dataclass(frozen=True)
class Recorder:
    """Asks one tree, whose interpreter this is."""

    tree: Path
    clips: Path
    work: Path
    wanted: frozenset[str]

    def run(self, *args: object, cwd: Path | None = None) -> dict[str, Any]:
        """Run a command; its steps, which tell times, are left out."""
        done = subprocess.run(
            [f"{sys.prefix}/bin/groundserve", *map(str, args)],
            cwd=cwd or self.work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        said = [line for line in done.stderr.splitlines() if not re.match(r"\[\d+\.\d s\] ", line)]
        return {"code": done.returncode, "stdout": _read_text(done.stdout), "stderr": said}

    def section(self, section: str) -> Any:
        """Record a section that is not of one model."""
        if section == "help":
            return self._help()
        if section == "api":
            return _describe_names()
        if section == "tensors":
            configs = sorted((self.tree / "triton_models").glob("*/*/config.pbtxt"))
            found = {str(path.relative_to(self.tree)): _public_tensors(path) for path in configs}
            return {path: text for path, text in found.items() if text}
        places = self._prepare(self.work / section)
        lines = LINES[section].strip().splitlines()
        words = [line.format(**places).split() for line in lines]
        said = [self.run(*one, cwd=self.work / section) for one in words]
        return {**dict(zip(lines, said, strict=True)), "files": _read_files(self.work / section)}

    def _prepare(self, folder: Path) -> dict[str, object]:
        """Make a folder with what the commands read; returns what their lines name otherwise."""
        folder.mkdir()
        fixtures = ROOT / "tests" / "fixtures"
        digits = fixtures / "videoitg_ref" / "videoitg-tiny"
        clip = "bikes.mp4"  # in this folder, since ids are made of its name
        (folder / clip).symlink_to(self.clips / clip)
        asked = [(clip, "a man"), (clip, "When is it seen?"), ("none.mp4", "x"), (clip, "a tree")]
        rows = [{"id": str(i), "video": v, "query": q} for i, (v, q) in enumerate(asked)]
        (folder / "manifest.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        records = [
            {"video": clip, "question": f"<image>\nquestion {i}?", "frame_num": [i % 3]}
            for i in range(4)
        ]
        (folder / "records.json").write_text(json.dumps(records))
        (folder / "train.toml").write_text(
            f'init = "{digits}"\nout = "trained"\nprecision = "fp32"\nparallelism = "none"\n'
            'save_every_steps = 2\n[data]\nrecords = "records.json"\nmedia_root = "."\n'
        )
        return {"clip": clip, "digits": digits, "vicuna": fixtures / "vtimellm" / "checkpoints"}

    def _help(self) -> dict[str, Any]:
        """Return the help of each command that the help of another names."""
        found, waiting = {}, [""]
        while waiting:
            words = waiting.pop()
            said = self.run(*words.split(), "--help")
            found[f"groundserve{words}"] = said
            panel = re.search(r"─ Commands ─.*?╰", str(said["stdout"]), re.DOTALL)
            names = re.findall(r"^│ ([a-z][\w-]*)", panel[0], re.MULTILINE) if panel else []
            waiting += [f"{words} {name}" for name in names]
        return found

    def model(self, name: str, model: dict[str, Any]) -> dict[str, Any]:
        """Record one model: built, by command, in process, and from a server."""
        family, cases = name.partition("/")[0], model["cases"]
        engines = self.work / "engines" / name
        engines.parent.mkdir(parents=True, exist_ok=True)
        source = ["--checkpoint", model["checkpoint"]]
        for part, paths in model["parts"].items():
            source += [word for path in paths for word in ("--part", f"{part}={path}")]
        said = self.run("build", *source, "--out", engines, "--json")
        config = engines / "model_repository" / family / "config.pbtxt"
        built = {"said": said, "files": _read_files(engines), "tensors": _public_tensors(config)}
        found: dict[str, Any] = {"build": built}
        verb = "score" if family == "videoitg" else "ask"
        lines = {case: [verb, *_arguments(asked), "--json"] for case, asked in cases.items()}
        (first, line), *_ = lines.items()
        if "cli" in self.wanted:
            found["cli"] = {k: self.run(*one, "--engines", engines) for k, one in lines.items()}
            if name in OPTIONS:
                found["cli"][f"{first} --checkpoint"] = self.run(*line, *source)
        if "pipeline" in self.wanted:
            found["pipeline"] = _ask_pipelines(engines, model, verb)
        if self.wanted & {"client", "triton"}:
            with self._served(engines) as (ready, ended):
                found["client"], found["triton"] = _ask_server(ready["grpc"], family, cases, verb)
                found["client"][f"{first} --server"] = self.run(*line, "--server", ready["grpc"])
                with urllib.request.urlopen(ready["metrics"]) as answer:
                    metrics = answer.read().decode()
            typed = re.findall(r"^# TYPE (groundserve\S* \S+)", metrics, re.MULTILINE)
            found["triton"] |= {"ready": ready, "metrics": sorted(typed), **ended}
        return {section: value for section, value in found.items() if section in self.wanted}

    @contextmanager
    def _served(self, engines: Path) -> Iterator[tuple[dict[str, Any], dict[str, int]]]:
        """Serve engines; yields the line of a ready server, and where its exit code will be."""
        line = [f"{sys.prefix}/bin/groundserve", "serve", "--engines", str(engines), "--json"]
        line += ["--allow-root", str(self.clips)]
        line += [word for port in ("http", "grpc", "metrics") for word in (f"--{port}-port", "0")]
        with (self.work / "serve.log").open("a") as log:
            server = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=log)
        ended: dict[str, int] = {}
        try:
            assert server.stdout is not None
            yield json.loads(server.stdout.readline()), ended
        finally:
            server.terminate()
            ended["code"] = server.wait()


def _normal(value: Any, places: tuple[Path, ...] = (), key: str = "") -> Any:
    """Return a value without what differs from run to run."""
    if VARYING.fullmatch(key) and value is not None:
        return sorted(value) if isinstance(value, dict) else "<varies>"
    if isinstance(value, dict):
        return {_normal(k, places): _normal(v, places, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_normal(one, places) for one in value]
    if isinstance(value, str):
        for place in places:
            value = value.replace(str(place), "<place>")
        for pattern, name in TEXT_RULES.items():
            value = re.sub(pattern, name, value)
    return value


def _arguments(asked: dict[str, Any]) -> list[str]:
    words = [asked["video"], *(word for one in asked["queries"] for word in ("--query", one))]
    for key, value in asked["options"].items():
        text = ":".join(map(str, value)) if isinstance(value, tuple) else str(value)
        name = "--" + key.replace("_", "-")
        words += [name] if value is True else [name, text]
    return words


def _public_tensors(config: Path) -> str:
    """Return what a caller of an ensemble sees, "" for other models."""
    public, is_ensemble, _ = config.read_text("utf-8").partition("ensemble_scheduling")
    return public if is_ensemble else ""


def _read_text(text: str) -> Any:
    """Return JSON, or lines of it, as values; any other text as it is."""
    with suppress(ValueError):
        return json.loads(text)
    with suppress(ValueError):
        return [json.loads(line) for line in text.splitlines()]
    return text


def _read_files(folder: Path) -> dict[str, Any]:
    """Return what each file holds: rows and JSON as values, all else as a hash."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            table = pq.read_table(path)
            rows = sorted(table.to_pylist(), key=lambda row: str(row.get("id")))
            found[name] = {"columns": str(table.schema), "rows": _plain(rows)}
        elif path.suffix in (".json", ".jsonl"):
            found[name] = _read_text(path.read_text("utf-8"))
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _plain(value: Any) -> Any:
    """Return an answer as JSON has it; floats keep their bits."""
    if hasattr(value, "dtype"):
        kind = {"dtype": str(value.dtype), "shape": list(value.shape)}
        return {**kind, "values": _plain(value.ravel().tolist())}
    if isinstance(value, bytes):
        return _read_text(value.decode("utf-8", "backslashreplace"))
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if hasattr(value, "items"):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, str | int | float | None) else repr(value)


def _answer_of(call: Callable[[], Any]) -> Any:
    """Return what a call answers; an error is an answer."""
    try:
        return _plain(call())
    except Exception as error:  # noqa: BLE001
        status = getattr(error, "status", lambda: None)()
        return {"error": type(error).__name__, "status": status, "message": str(error)}


def _describe_names() -> dict[str, Any]:
    """Describe each public name, with what a caller reaches by it."""
    import groundserve

    def described(thing: Any) -> Any:
        if not isinstance(thing, type):
            return repr(thing)
        names = [name for name in dir(thing) if not name.startswith("_")]
        members = {name: getattr(thing, name) for name in names}
        if issubclass(thing, Exception):  # what else it is decides who catches it
            return [base.__name__ for base in thing.__mro__]
        return {
            name: str(inspect.signature(one)) if callable(one) else type(one).__name__
            for name, one in {"()": thing, **members}.items()
        }

    return {name: described(getattr(groundserve, name)) for name in groundserve.__all__}


def _ask(of: Any, verb: str, asked: dict[str, Any]) -> Any:
    """Ask a pipeline or a client one case."""
    import groundserve

    kind = groundserve.ScoreOptions if verb == "score" else groundserve.AnswerOptions
    call = getattr(of, verb)
    return _answer_of(lambda: call(asked["video"], asked["queries"], kind(**asked["options"])))


def _ask_pipelines(engines: Path, model: dict[str, Any], verb: str) -> dict[str, Any]:
    """Ask every case of the engines and, in PyTorch, of the checkpoint."""
    from groundserve import Pipeline

    checkpoint, parts = model["checkpoint"], model["parts"]
    found = {}
    for source, opened in (
        ("engines", Pipeline.open(engines)),
        ("checkpoint", Pipeline.from_checkpoint(checkpoint, parts=parts)),
    ):
        with opened as pipeline:
            found[source] = {k: _ask(pipeline, verb, one) for k, one in model["cases"].items()}
    return found


def _ask_server(address: str, family: str, cases: Any, verb: str) -> tuple[Any, Any]:
    """Ask every case by `Client`, and the public model by NVIDIA's client; then wrong requests."""
    import numpy as np
    import tritonclient.grpc as triton

    from groundserve import Client

    by_tensors = triton.InferenceServerClient(address.removeprefix("grpc://"))

    def infer(**inputs: Any) -> Any:
        tensors = []
        for name, values in inputs.items():
            is_video = name == "VIDEO"
            array = np.frombuffer(values, np.uint8) if is_video else np.array(values, np.object_)
            kind = "UINT8" if is_video else "BYTES"
            tensors.append(triton.InferInput(name, list(array.shape), kind))
            tensors[-1].set_data_from_numpy(array)
        answer = by_tensors.infer(family, tensors)
        return {one.name: answer.as_numpy(one.name) for one in answer.get_response().outputs}

    with Client(address) as client:
        found = {name: _ask(client, verb, asked) for name, asked in cases.items()}
    requests: dict[str, dict[str, Any]] = {}
    for name, asked in cases.items():
        queries = [query.encode() for query in asked["queries"]]
        video, options = Path(asked["video"]).read_bytes(), json.dumps(asked["options"]).encode()
        requests[name] = {"VIDEO": video, "QUERY": queries, "OPTIONS": [options]}
    good = {"VIDEO": video, "QUERY": [b"x"]}
    requests |= {
        "wrong: no question": {"VIDEO": video},
        "wrong: empty question": {**good, "QUERY": [b""]},
        "wrong: 33 questions": {**good, "QUERY": [b"x"] * 33},
        "wrong: no video": {"QUERY": [b"x"]},
        "wrong: no container": {**good, "VIDEO": b"no video"},
        "wrong: two videos": {**good, "VIDEO_URI": [b"file:///x"]},
        "wrong: unknown option": {**good, "OPTIONS": [b'{"a": 1}']},
        "wrong: option twice": {**good, "OPTIONS": [b'{"num_frames": 8, "num_frames": 9}']},
        "wrong: outside": {"QUERY": [b"x"], "VIDEO_URI": [Path(__file__).as_uri().encode()]},
        "wrong: over http": {"QUERY": [b"x"], "VIDEO_URI": [b"http://127.0.0.1:9/x"]},
    }
    return found, {k: _answer_of(lambda one=one: infer(**one)) for k, one in requests.items()}


def record(arguments: argparse.Namespace) -> None:
    """Write a recording; ends with 1 if a part of it could not be made."""
    if not sys.flags.safe_path:  # which keeps this script's own folder from being imported from
        os.execv(arguments.python, [str(arguments.python), "-P", *sys.argv])
    import groundserve

    tree = arguments.tree.resolve()
    clips = (arguments.clips or Path(sys.prefix) / "clips").resolve()
    if Path(groundserve.__file__).resolve().parent.parent != tree:
        sys.exit(f"{arguments.python} imports {groundserve.__file__}, which is not of {tree}")
    only = frozenset(arguments.only.split(",") if arguments.only else ())
    all_models = models(clips)
    if unknown := only.difference(SECTIONS, all_models):
        sys.exit(f"--only must be of {', '.join([*SECTIONS, *all_models])}, got {min(unknown)}")
    wanted = only.intersection(SECTIONS) or frozenset(SECTIONS)
    # One thread sums floats in one order. On a wide screen help is not broken into lines.
    os.environ |= {"OMP_NUM_THREADS": "1", "COLUMNS": "240", "TERM": "dumb", "PYTHONHASHSEED": "0"}
    started = time.monotonic()
    sections: dict[str, Any] = {}
    failed = []
    with (
        tempfile.TemporaryDirectory(prefix="surface-") as work,
        ProcessPoolExecutor(2, get_context("spawn"), max_tasks_per_child=1) as pool,
    ):
        recorder = Recorder(tree, clips, Path(work), wanted)
        jobs = {one: pool.submit(recorder.section, one) for one in wanted.difference(OF_MODELS)}
        for name, model in all_models.items() if wanted.intersection(OF_MODELS) else ():
            if name in only or only <= wanted:
                jobs[name] = pool.submit(recorder.model, name, model)
        for name, job in jobs.items():
            try:
                answers = _normal(job.result(), (Path(work), clips, tree, ROOT))
            except Exception:  # noqa: BLE001  # the others are recorded
                failed.append(f"{name}: {traceback.format_exc()}")
                continue
            print(f"[{time.monotonic() - started:.0f} s] {name}", file=sys.stderr, flush=True)
            for section, answer in answers.items() if name not in SECTIONS else ():
                sections.setdefault(section, {})[name] = answer
            if name in SECTIONS:
                sections[name] = answers
            # Each time: a recording takes minutes, and what ends it should not cost all of it.
            arguments.out.write_text(json.dumps(sections, indent=1, sort_keys=True) + "\n")
    print(f"{arguments.out}: {', '.join(sections)}; {time.monotonic() - started:.0f} s")
    sys.exit("\n".join(failed) or 0)


def differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield each place where two recordings differ, and how."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if key not in new:
                yield f"{path}/{key}", f"is gone, was {_shortened(old[key])}"
            elif key not in old:
                yield f"{path}/{key}", f"is new: {_shortened(new[key])}"
            else:
                yield from differences(old[key], new[key], f"{path}/{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from differences(one, other, f"{path}/{number}")
    # As text: NaN is itself, 1 is not 1.0, -0.0 is not 0.0.
    elif json.dumps(old) != json.dumps(new):
        yield path, f"{_shortened(old)} -> {_shortened(new)}"


def _shortened(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:160]}... ({len(text)} characters)"


def compare(arguments: argparse.Namespace) -> None:
    """Print what differs; ends with 1 if something does that no line allows."""
    allowed = {}
    for line in arguments.allow.read_text("utf-8").splitlines() if arguments.allow else ():
        pattern, _, reason = line.partition(" # ")
        if not reason.strip():
            sys.exit(f"{arguments.allow}: a line needs ' # ' and a reason: {line}")
        allowed[pattern.strip()] = 0
    # Again, by what is known of them by now: recordings of old trees are kept.
    old, new = (
        _normal(json.loads(path.read_text("utf-8"))) for path in (arguments.old, arguments.new)
    )
    num_differing = 0
    for path, how in differences(old, new):
        pattern = next((one for one in allowed if fnmatch.fnmatchcase(path, one)), None)
        if pattern is None:
            num_differing += 1
            print(f"{path}: {how}")
        else:
            allowed[pattern] += 1
    for pattern, count in allowed.items():
        print(f"allowed {count} times: {pattern}")
    print(f"{num_differing} differences that no line allows")
    sys.exit(1 if num_differing else 0)


def main() -> None:
    """Record or compare."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("record", help="write what a tree answers")
    one.set_defaults(run=record)
    one.add_argument("--tree", type=Path, required=True)
    one.add_argument("--python", type=Path, required=True, help="has this tree installed")
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--only", help=f"models, and some of {','.join(SECTIONS)}")
    one.add_argument("--clips", type=Path, help="else those of the interpreter's environment")
    other = commands.add_parser("compare", help="say where two recordings differ")
    other.set_defaults(run=compare)
    other.add_argument("old", type=Path)
    other.add_argument("new", type=Path)
    other.add_argument("--allow", type=Path)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
