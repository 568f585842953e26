"""What does the gateway add, and does it hold: load, kills, switches, and those who mean harm?

    python -m benchmarks.gateway PART... [--engines DIR] [--others DIR] [--minutes 10] --out JSON

Parts: `overhead`, `mixed`, `idle`, `kills`, `switch`, `honest` (docs/benchmarks.md), each with a
`groundserve serve --gateway` of its own and the shipped checkpoint unless told. What did not hold
and is no figure is among the errors of the report, and the status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import httpx2
import psutil

from benchmarks._attacks import honest
from benchmarks._command import run
from benchmarks._gateway import BAD, GOOD, Bench, Kept, ended, load, mixed, point_to, store
from benchmarks._report import describe_video, spread, write_report
from benchmarks._usage import tree, tree_cpu_seconds
from engine_build import build
from groundserve import Client, ScoreOptions
from groundserve.limits import MIB
from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from scripts import fetch_clips

_NUM_CLIENTS = 16


def overhead(bench: Bench) -> dict[str, Any]:
    """Ask directly and through the gateway, in turn; features are cached."""
    with bench.serving(*bench.with_gateway) as (started, client):
        video_id = store(client, bench.video)
        uri = (bench.folder / "spool" / "videos" / video_id).as_uri()
        body = {"video_id": video_id, "queries": ["a"], "num_frames": 16}
        with Client(started.addresses["grpc"]) as grpc:
            options = ScoreOptions(num_frames=16)
            ways: dict[str, Callable[[], Any]] = {
                "direct": lambda: grpc.score(video_uri=uri, queries="a", options=options),
                "gateway": lambda: client.post("/v1/score", json=body).json()["queries"],
            }
            for _ in range(20):
                took = [one() for one in ways.values()]
            direct = took[0].to_json()["queries"]
            bench.expect(json.dumps(took[1]) == json.dumps(direct), "the answers differ")
            pairs = [{name: _ms(way) for name, way in _turned(ways, n)} for n in range(200)]
    differences = [pair["gateway"] - pair["direct"] for pair in pairs]
    each = {name: spread([pair[name] for pair in pairs]) for name in ways}
    return {"added_ms": {**spread(differences), "min": min(differences)}, "ms": each}


def _turned(ways: dict[str, Any], number: int) -> list[tuple[str, Any]]:
    return list(ways.items())[:: 1 if number % 2 else -1]


def _ms(way: Callable[[], Any]) -> float:
    started = time.perf_counter()
    way()
    return (time.perf_counter() - started) * 1000


def mixed_load(bench: Bench) -> dict[str, Any]:
    """300 requests, a tenth of them bad, from 16 clients; then as many minutes of them."""
    rng = random.Random(0)
    kinds = [rng.choice(GOOD) for _ in range(270)] + [rng.choice(list(BAD)) for _ in range(30)]
    asked = [(kind, rng.randrange(8)) for kind in kinds]
    rng.shuffle(asked)
    with bench.serving(*bench.with_gateway) as (started, client):
        video_id = store(client, bench.video)

        def ask(kind: str, number: int) -> Kept:
            return mixed(client, kind, number, bench.video, video_id)

        alone = {one: ask(*one) for one in sorted(set(asked))}
        for kind, answer in ((one[0], alone[one]) for one in alone):
            is_right = answer[0] < 300 if kind in GOOD else 400 <= answer[0] < 500
            bench.expect(is_right, f"{kind}: {answer[0]}")
        with ThreadPoolExecutor(_NUM_CLIENTS) as pool:
            answers = list(pool.map(lambda one: ask(*one), asked))
        num_other = sum(answer != alone[one] for one, answer in zip(asked, answers, strict=True))
        bench.expect(not num_other, f"{num_other} of 300 answers differ from those asked alone")

        outcomes: list[bool] = []
        memory: list[tuple[float, float]] = []
        began = time.monotonic()
        with load(lambda n: outcomes.append(ask(*asked[n % 300]) == alone[asked[n % 300]]), [], 16):
            while (passed := time.monotonic() - began) < bench.minutes * 60:
                memory.append((passed, _rss_mib(started.root.pid)))
                time.sleep(1)
        events = Counter(one["event"] for one in started.events() if one["event"] != "request")
        bench.expect(all(outcomes), f"{outcomes.count(False)} answers of the load differ")
        bench.expect(not events["server_died"], "the server died")
    warm_up = len(memory) // 5
    warm = median(mib for _, mib in memory[warm_up:][:60])
    end = median(mib for _, mib in memory[-60:])
    return {
        "requests_from_16_clients": {"count": 300, "bad": 30, "differ": num_other},
        "minutes": bench.minutes,
        "requests": len(outcomes),
        "differ": outcomes.count(False),
        "rss_mib": {"warm": warm, "end": end, "growth": end - warm, "each_minute": memory[::60]},
        "events": events,
    }


def _rss_mib(pid: int) -> float:
    total = 0.0
    for process in tree(pid):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss / MIB
    return total


def idle(bench: Bench) -> dict[str, Any]:
    """Read the processor time of a server and a gateway that nobody asks."""
    with bench.serving(*bench.with_gateway) as (started, client):
        mixed(client, "upload", 0, bench.video, "")
        time.sleep(20)
        before, began = tree_cpu_seconds(started.root.pid), time.monotonic()
        time.sleep(60)
        used = tree_cpu_seconds(started.root.pid) - before
        return {"seconds": 60, "share_of_a_core": used / (time.monotonic() - began)}


def kills(bench: Bench) -> dict[str, Any]:
    """Kill tritonserver 20 times under load, then the gateway 5 times with jobs under way."""
    rng, answers, jobs = random.Random(0), list[Kept](), list[str]()
    with bench.serving(*bench.with_gateway) as (started, client):
        video_id = store(client, bench.video)

        def ask(number: int) -> Kept:
            body = {"video_id": video_id, "queries": [f"number {number}"], "num_frames": 16}
            answer = client.post("/v1/score", json=body | {"background": number % 4 == 0})
            if answer.status_code == 202:
                jobs.append(answer.json()["id"])
            return answer.status_code, (answer.json().get("error") or {}).get("type", "")

        with load(ask, answers):
            for _ in range(20):
                time.sleep(rng.uniform(0.5, 3))
                num_before = len(started.events())
                (server,) = (one for one in tree(started.root.pid) if one.name() == "tritonserver")
                server.kill()
                started.wait_for("server_restarted", after=num_before)
        ends = [ended(client, job) for job in jobs]
    outcomes = Counter(f"{status} {kind}".strip() for status, kind in answers)
    of_jobs = Counter(one["error"]["type"] if one["error"] else one["status"] for one in ends)
    bench.expect({status for status, _ in answers} <= {200, 202, 503}, f"answers: {outcomes}")
    bench.expect(all(bool(one["error"]) != bool(one["result"]) for one in ends), "a job has both")
    return {
        "tritonserver_killed": 20,
        "answers": outcomes,
        "jobs": of_jobs,
        **_gateway_kills(bench, rng),
    }


def _gateway_kills(bench: Bench, rng: random.Random) -> dict[str, Any]:
    spool, jobs = bench.folder / "spool", list[str]()
    (spool / "videos").mkdir(parents=True, exist_ok=True)
    with bench.serving("--allow-root", spool / "videos") as (served, _):
        upstream = f"grpc://{served.addresses['grpc'].split('//')[-1]}"
        words = ("gateway", "--upstream", upstream, "--spool", spool, "--port", 0, "--json")
        for number in range(6):
            with bench.program(*words) as (_, client):
                if number == 5:
                    ends = [ended(client, job) for job in jobs]
                    break
                video_id = store(client, bench.video)
                body = {"video_id": video_id, "background": True, "num_frames": 512}
                for one in range(4):
                    body["queries"] = [f"{number} {one} {rng.random()}"]
                    jobs.append(client.post("/v1/score", json=body).json()["id"])
                time.sleep(rng.uniform(0, 0.5))
    outcomes = Counter(one["error"]["type"] if one["error"] else one["status"] for one in ends)
    bench.expect(outcomes == {"done": 20}, f"jobs of gateways that were killed: {outcomes}")
    return {"gateway_killed": 5, "jobs_of_killed_gateways": outcomes}


def switch(bench: Bench) -> dict[str, Any]:
    """Switch between two engine directories with SIGHUP under load, 6 times."""
    answers, known = list[Kept](), list[list[Kept]]()

    def asking(client: httpx2.Client) -> Callable[[int], Kept]:
        video_id = store(client, bench.video)
        return lambda n: mixed(client, ("score", "upload")[n % 2], n % 12, bench.video, video_id)

    for place in bench.all_engines:
        point_to(bench.engines, place)
        with bench.serving(*bench.with_gateway) as (_, client):
            known.append(list(map(asking(client), range(12))))
    with bench.serving(*bench.with_gateway) as (started, client), load(asking(client), answers):
        for number in range(6):
            time.sleep(2)
            num_before = len(started.events())
            point_to(bench.engines, bench.all_engines[(number + 1) % 2])
            started.program.send_signal(signal.SIGHUP)
            started.wait_for("switched", after=num_before)
    owners = [[n for n, told in enumerate(known) if kept in told] for kept in answers]
    by_engine = Counter(one[0] if len(one) == 1 else "unknown" for one in owners)
    statuses = Counter(status for status, _ in answers)
    bench.expect(set(statuses) == {200}, f"statuses: {statuses}")
    bench.expect(set(by_engine) == {0, 1}, f"answers by engine: {by_engine}")
    return {"switches": 6, "statuses": statuses, "answers_by_engine": by_engine}


PARTS = {
    "overhead": overhead,
    "mixed": mixed_load,
    "idle": idle,
    "kills": kills,
    "switch": switch,
    "honest": honest,
}


def main() -> None:
    """Run the parts that are asked for, and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="+", choices=PARTS, metavar="PART")
    parser.add_argument("--engines", type=Path, help="of the family videoitg")
    parser.add_argument("--others", type=Path, help="the same with int8, for `switch`")
    parser.add_argument("--minutes", type=float, default=10.0, help="of `mixed`, after the 300")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    clips = Path(os.environ.get("GROUNDSERVE_CLIPS_DIR", ".venv/clips"))
    fetch_clips.main(clips)
    video, results, problems = clips / "bikes.mp4", {}, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.engines is None:
            args.engines = folder / "engines"
            build(SHIPPED_CHECKPOINT, args.engines, profile="cpu")
        if args.others is None:
            args.others = folder / "others"
            build(SHIPPED_CHECKPOINT, args.others, profile="cpu", precision="int8")
        for part in args.parts:
            (of_part := folder / part).mkdir()
            bench = Bench(of_part, [args.engines, args.others], video, args.minutes)
            results[part] = PARTS[part](bench)
            problems += [f"{part}: {one}" for one in bench.problems]
            print(part, json.dumps(results[part]), bench.problems, flush=True)
    write_report(
        args.out,
        "what the gateway adds, and whether it holds",
        results,
        inputs=[describe_video(video)],
        errors=problems,
    )
    if problems:
        sys.exit("; ".join(problems))


if __name__ == "__main__":
    run(main)
