"""`groundserve annotate` on Ray, of an endpoint that misbehaves, killed and resumed.

Many in a row: `python -m benchmarks.repeat` with the test of kills.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from groundserve.annotate.annotator import read_annotations
from groundserve.annotate.estimate import estimate_run
from groundserve.annotate.items import ItemParser
from groundserve.batch.rows import read_manifest, rows_of_folder
from groundserve.evaluation.qa.spending import Prices
from groundserve.options import AnswerOptions
from groundserve.storage import open_storage
from tests.batch.jobs import final_set
from tests.batch.kills import Killed
from tests.support.digits_llm import FAULTS, DigitsLlm, write_manifest
from tests.unit.evaluation.qa.chat_server import ChatServer
from train.digits.dataset import write_grounding_set

NUM_VIDEOS = 5
ONE_LOOK_SECONDS = 1.0


@pytest.fixture(scope="module")
def digit_set(tmp_path_factory):
    root = tmp_path_factory.mktemp("set")
    path = write_grounding_set(root, split="test", seed=4, num_videos=NUM_VIDEOS, num_frames=14)
    records = json.loads(path.read_text())
    return root, records, write_manifest(records, root / "manifest.jsonl")


def words(manifest, out, url, *more):
    given = ["annotate", manifest, "--out", out, "--endpoint", url, "--model", "digits"]
    given += ["--choice", "all", "--call-seconds", "2", "--concurrency", "4", *more]
    return [str(word) for word in given]


def groundserve(*given):
    """Run a command in a process of its own: Ray leaves some of its processes to whoever calls."""
    command = [sys.executable, "-m", "groundserve", *map(str, given)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def annotations(out: Path):
    rows = final_set(out)
    return {
        row_id: read_annotations(text)
        for row_id, text in zip(rows["id"].to_pylist(), rows["answer"].to_pylist(), strict=True)
    }


def check_calls(out: Path, log: Path) -> set[str]:
    """No call was made that had an answer on the disk; returns the faults that were met.

    A worker whose driver was killed may write an answer when another one has just looked for it.
    """
    files = {path.stem: path.stat().st_mtime for path in (out / "calls").rglob("*.json")}
    asked = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["key"] for line in asked} == files.keys()
    assert not [line for line in asked if line["began"] > files[line["key"]] + ONE_LOOK_SECONDS]
    return {line["fault"] for line in asked}


@pytest.mark.timeout(900)
def test_killed_amid_faults_is_as_if_nobody_had_killed(tmp_path, digit_set):
    root, records, manifest = digit_set
    outs, met = {}, {}
    for name, kinds in (("quiet", []), ("killed", ["worker", "driver", "worker", "driver"])):
        out = outs[name] = tmp_path / name
        log = tmp_path / f"{name}.jsonl"
        llm = DigitsLlm(records, root, faults=0.2, log=log, seconds=0.2 if kinds else 0.0)
        with ChatServer(llm) as server:
            command = [sys.executable, "-m", "groundserve"]
            command += words(manifest, out, server.url, "--workers", "2", "--max-attempts", "99")
            killed = Killed(manifest, out, command=command)
            left = killed.run(kinds, random.Random(2), max_seconds=12)
        assert not left
        met[name] = check_calls(out, log)
    assert met["quiet"] >= set(FAULTS)
    quiet, killed_notes = annotations(outs["quiet"]), annotations(outs["killed"])
    assert quiet.keys() == {record["id"] for record in records}
    assert killed_notes == quiet
    summaries = [json.loads((out / "summary.json").read_text()) for out in outs.values()]
    for summary in summaries:
        for counts in summary["stages"].values():
            del counts["retries"]  # a try that failed is forgotten with the process that made it
    assert summaries[0] == summaries[1]
    assert summaries[0]["states"].keys() == {"success", "refused"}
    truth = {record["id"]: record["frame_num"] for record in records}
    for row_id, (note,) in quiet.items():
        assert note.state == "refused" or note.frames == truth[row_id]


@pytest.mark.timeout(300)
def test_a_run_is_of_one_contract_and_costs_what_was_estimated(tmp_path, digit_set):
    root, records, manifest = digit_set
    with ChatServer(DigitsLlm(records, root)) as server:
        half = write_manifest(records[: len(records) // 2], root / "half.jsonl")
        prices = ("--price-in", "0.15", "--price-out", "0.6", "--json")
        pilot = groundserve(*words(half, tmp_path / "pilot", server.url, *prices))
        assert pilot.returncode == 0, pilot.stderr
        num_asked = len(server.requests)
        dry = groundserve(
            *words(manifest, tmp_path / "run", server.url, *prices),
            *("--dry-run", tmp_path / "pilot"),
        )
        assert dry.returncode == 0, dry.stderr
        assert len(server.requests) == num_asked
        assert not (tmp_path / "run").exists()
        told = groundserve(*words(manifest, tmp_path / "run", server.url, *prices))
        assert told.returncode == 0, told.stderr
        estimate, took = (json.loads(one.stdout.splitlines()[-1]) for one in (dry, told))
        for name in ("calls", "prompt_tokens", "completion_tokens", "cost"):
            assert estimate[name] == pytest.approx(took[name], rel=0.05), name
        assert took["kept"] == len(records)
        assert "prompt tokens" in (tmp_path / "run" / "report.html").read_text()

        prompts = tmp_path / "prompts"
        prompts.mkdir()
        (prompts / "caption.txt").write_text("Say what you see.")
        num_asked = len(server.requests)
        changed = ("--resume", "--prompts", prompts, "--frames-per-call", "4")
        refused = groundserve(*words(manifest, tmp_path / "run", server.url, *changed))
        assert refused.returncode == 2
        assert "prompt caption: " in refused.stderr
        assert "frames-per-call: 16 before, 4 now" in refused.stderr
        assert "prompt retrieve" not in refused.stderr
        again = groundserve(*words(manifest, tmp_path / "run", server.url, "--resume"))
        assert again.returncode == 0, again.stderr
        assert len(server.requests) == num_asked


@pytest.mark.timeout(300)
def test_questions_are_proposed_for_a_folder(tmp_path, digit_set):
    root, records, manifest = digit_set
    with ChatServer(DigitsLlm(records, root)) as server:
        llm = groundserve(*words(root, tmp_path / "run", server.url, "--proposals", "2", "--json"))
    assert llm.returncode == 0, llm.stderr
    found = json.loads((tmp_path / "run" / "annotations.json").read_text())
    assert len(found) == 2 * NUM_VIDEOS
    truth = {(one["video"], one["question"]): one["frame_num"] for one in records}
    assert {(one["video"], one["question"]): one["frame_num"] for one in found}.items() <= (
        truth.items()
    )
    assert len({one["id"] for one in found}) == len(found)

    # Rows that ask a question each: no two of them a row, and no call that proposes.
    storage, prices = open_storage(str(tmp_path / "run")), Prices(prompt=1.0, completion=1.0)
    rows = read_manifest(str(manifest), defaults=AnswerOptions(), parser=ItemParser)
    asked = estimate_run(rows, storage, prices)
    assert asked["annotations"] == len(records)
    spent = json.loads((tmp_path / "run" / "summary.json").read_text())["stages"]
    each = sum(counts["calls"] for name, counts in spent.items() if name != "propose") / len(found)
    assert asked["calls"] == pytest.approx(each * len(records), rel=0.05)
    again = rows_of_folder(str(root), (), defaults=AnswerOptions())
    proposed = estimate_run(again, storage, prices)
    assert proposed["calls"] == sum(counts["calls"] for counts in spent.values())
