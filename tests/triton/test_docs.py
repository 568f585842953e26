"""The examples of docs/serve.md and docs/python.md run as they stand, against the real server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest

from tests.support.reference import REPOSITORY


def example(kind: str, page: str = "serve.md") -> str:
    """Return the code block that follows `<!-- run: kind -->`."""
    text = (REPOSITORY / "docs" / page).read_text("utf-8")
    (code,) = re.findall(rf"<!-- run: {kind} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    return code


@pytest.fixture
def folder(video_root, clips):
    shutil.copyfile(clips["bikes"], video_root / "bikes.mp4")
    return video_root


def test_curl(server, folder):
    code = example("curl").replace("127.0.0.1:8000", server.http_address)
    code = code.replace("/data/videos", str(folder))
    run = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    outputs = {output["name"]: output for output in json.loads(run.stdout)["outputs"]}
    assert outputs["SELECTED_FRAMES"]["shape"] == [1, 4]
    assert outputs["FRAME_SCORES"]["shape"] == [1, 10]


def test_python(server, folder):
    code = example("python").replace("127.0.0.1:8001", server.grpc_address)
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    lines = run.stdout.splitlines()
    assert lines[0].startswith("When is a parked bicycle shown? [")
    assert lines[-1].startswith("refused: sample_fps 1000 is too high")


def test_curl_of_questions_to_a_family_that_answers_in_text(answering, folder):
    code = example("curl ask").replace("127.0.0.1:8000", answering.triton.http_address)
    code = code.replace("/data/videos", str(folder))
    run = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    outputs = {output["name"]: output for output in json.loads(run.stdout)["outputs"]}
    assert outputs["ANSWER"]["shape"] == [2]
    assert outputs["MOMENTS"]["shape"][1:] == [3]
    assert outputs["MOMENT_OFFSETS"]["shape"] == [3]
    assert len(json.loads(outputs["INFO"]["data"][0])["generation"]["stop_reasons"]) == 2


def test_python_of_questions_to_a_family_that_answers_in_text(answering, folder):
    code = example("python ask").replace("127.0.0.1:8001", answering.triton.grpc_address)
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    starts = ["a bicycle is parked ", "a car passes "]
    lines = run.stdout.splitlines()
    assert [line[: len(start)] for line, start in zip(lines, starts, strict=True)] == starts


@pytest.mark.parametrize(
    ("kind", "first_line", "num_lines"),
    [
        ("client", "When is a parked bicycle shown? [", 2),
        ("async", "[", 2),
        ("pipeline", "250 [", 2),
        ("pipeline-cache", "False 10", 2),
    ],
)
def test_page_on_python(
    server, engine_dirs, folder, monkeypatch, capsys, kind, first_line, num_lines
):
    code = example(kind, "python.md").replace("127.0.0.1:8001", server.grpc_address)
    code = code.replace('"engines"', repr(str(engine_dirs["cpu"])))
    monkeypatch.chdir(folder)
    exec(compile(code, kind, "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(first_line)
    assert len(lines) == num_lines


def test_page_on_python_asks_in_process(answer_engines, folder, monkeypatch, capsys):
    code = example("ask", "python.md").replace('"engines"', repr(str(answer_engines("stage3"))))
    monkeypatch.chdir(folder)
    exec(compile(code, "ask", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("134 (")
    assert [line.split(" [")[0] for line in lines[1:]] == ["a bicycle is parked", "a car passes"]
