"""The file and the command line as `perf_analyzer` documents them (docs/input_data.md, cli.md)."""

from __future__ import annotations

import base64
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from tritonclient.utils import deserialize_bytes_tensor

from benchmarks._generator import Load
from benchmarks._loops import Windows
from benchmarks._perf_analyzer import command, read_figures, run, write_input
from benchmarks._workload import Workload
from groundserve import ScoreOptions
from tests.reference import REPOSITORY

VIDEO = b"\x00\x00\x00\x10ftypisom" + bytes(range(100))
LOAD = Load(
    way="grpc",
    address="127.0.0.1:8001",
    server_pid=None,
    workload=Workload(videos=(VIDEO,), options=ScoreOptions(num_frames=3)),
    cached_share=0.5,
    num_clients=4,
    windows=Windows(seconds=2.5, warm_up_seconds=1.0, most=6, stability=0.1),
    timeout_seconds=10.0,
    slo_seconds=2.0,
    seed=0,
    first_number=5,
)
# As 2.60.0 writes it with -f.
FIGURES = """\
Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,\
Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,\
p50 latency,p90 latency,p95 latency,p99 latency
4,101.5,10,200,300,40,5000,60,7,36000,51000,60000,95000
"""


def model_inputs():
    """Datatype by name, as the public model's configuration has them."""
    text = (REPOSITORY / "triton_models" / "cpu" / "videoitg" / "config.pbtxt").read_text()
    return dict(re.findall(r'input {\n  name: "(\w+)"\n  data_type: TYPE_(\w+)', text))


def test_input_data_is_laid_out_as_documented(tmp_path):
    write_input(tmp_path / "input.json", LOAD, 20)
    document = json.loads((tmp_path / "input.json").read_text())
    assert list(document) == ["data"]
    assert len(document["data"]) == 20
    datatypes, videos = model_inputs(), []
    for number, entry in enumerate(document["data"], 5):
        assert set(entry) == {"VIDEO", "QUERY", "OPTIONS"}
        for name, tensor in entry.items():
            assert set(tensor) == {"content", "shape"}
            assert list(tensor["content"]) == ["b64"]
            raw = base64.b64decode(tensor["content"]["b64"], validate=True)
            if datatypes[name] == "UINT8":
                assert tensor["shape"] == [len(raw)]
                videos.append(raw)
            else:  # each text behind its length, 4 bytes, little-endian
                assert datatypes[name] == "STRING"
                texts = deserialize_bytes_tensor(raw)
                assert len(texts) == math.prod(tensor["shape"])
                assert sum(4 + len(text) for text in texts) == len(raw)
                if name == "QUERY":
                    assert texts.tolist() == [f"When is number {number} shown?".encode()]
    assert 1 < len(set(videos)) < 20
    assert videos.count(VIDEO) == 20 - len(set(videos)) + 1  # all others differ


def test_command_of_a_closed_loop():
    assert command("perf_analyzer", LOAD, Path("in.json")) == [
        *("perf_analyzer", "-m", "videoitg", "-i", "grpc", "-u", "127.0.0.1:8001"),
        *("--input-data=in.json", "--concurrency-range=4", "--measurement-interval=2500"),
        *("--stability-percentage=10", "--max-trials=6"),
    ]


def test_command_of_an_open_loop():
    words = command("perf_analyzer", replace(LOAD, num_clients=None, rate=12.5), Path("in.json"))
    at = words.index("--request-rate-range=12.5")
    assert words[at + 1 : at + 3] == ["--request-distribution=poisson", "--async"]
    assert not any("concurrency" in word for word in words)


def test_figures_are_read_in_seconds():
    found = read_figures(FIGURES)
    assert found["answers_per_second"] == 101.5
    assert found["seconds"] == pytest.approx({"median": 0.036, "p90": 0.051, "p99": 0.095})


@pytest.mark.parametrize("status", [0, 2])
def test_run(status, tmp_path):
    """A program in its place, which checks what it is given."""
    program = tmp_path / "perf_analyzer"
    program.write_text(
        "#!/bin/sh\n"
        'for word; do case $word in --input-data=*) file="${word#*=}";; esac; table=$word; done\n'
        'grep -q VIDEO "$file" || exit 9\n'
        f"cat > \"$table\" <<'END'\n{FIGURES}END\n"
        f"echo first; echo second >&2; exit {status}\n"
    )
    program.chmod(0o755)
    found = run(str(program), LOAD)
    assert found == ({"failed": "first second"} if status else read_figures(FIGURES))
