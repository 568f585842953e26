"""What happens past capacity? Closed loop for the capacity, then open loop at shares of it.

python -m benchmarks.overload [--seconds 60] [--slo-seconds 2] [--checkpoint DIR] [--out JSON]

Requests arrive as a Poisson process, whatever the server does; a latency counts from the planned
arrival. Bar: past capacity the excess is refused at once with UNAVAILABLE and before anything is
decoded, and the server counts as many refusals as the clients saw. What an accepted request waits
is bounded by how many may: 16.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._arrivals import poisson
from benchmarks._checkpoint import SEEDED_CHECKPOINT
from benchmarks._load import Outcome, Request, good_requests, read_metrics, served
from benchmarks._report import write_report
from groundserve import Client
from groundserve.serving import TritonServer

SHARES = (0.5, 0.8, 1.0, 1.2, 2.0, 4.0)
MAX_OPEN_REQUESTS = 256
CLOSED_LOOP_CLIENTS = 4
"""As many as keep all stages busy and are never refused: those that are only waste work."""
WARM_UP_SECONDS = 5.0
SETTLE_SECONDS = 3.0


def capacity(client: Client, requests: list[Request], seconds: float) -> float:
    """Return answers a second with each client waiting for its own."""
    until = time.monotonic() + seconds

    def ask_again_and_again(seed: int) -> int:
        rng, answered = random.Random(seed), 0
        while time.monotonic() < until:
            answered += Outcome.of(partial(rng.choice(requests).send, client)).code == "ok"
        return answered

    with ThreadPoolExecutor(CLOSED_LOOP_CLIENTS) as pool:
        return sum(pool.map(ask_again_and_again, range(CLOSED_LOOP_CLIENTS))) / seconds


def offer(client: Client, requests: list[Request], rate: float, seconds: float) -> list[Outcome]:
    """Send requests at a rate, without waiting for their answers."""
    rng = random.Random(0)
    started = time.perf_counter()
    with ThreadPoolExecutor(MAX_OPEN_REQUESTS) as pool:
        pending = []
        for at in poisson(rate, seconds, seed=1):
            due = started + at
            time.sleep(max(0.0, due - time.perf_counter()))
            send = partial(rng.choice(requests).send, client)
            pending.append(pool.submit(Outcome.of, send, since=due))
        return [future.result() for future in pending]


def judge(outcomes: list[Outcome], seconds: float, slo_seconds: float) -> dict[str, Any]:
    """Say how the offered requests went."""
    accepted = [outcome.seconds for outcome in outcomes if outcome.code == "ok"]
    refused = [outcome for outcome in outcomes if outcome.code != "ok"]
    return {
        "offered_per_second": len(outcomes) / seconds,
        "accepted_per_second": len(accepted) / seconds,
        "goodput_per_second": sum(value <= slo_seconds for value in accepted) / seconds,
        "accepted_seconds": percentiles(accepted),
        "refused_share": len(refused) / len(outcomes),
        "refusals": {
            code: {"count": count}
            | percentiles([outcome.seconds for outcome in refused if outcome.code == code])
            for code, count in Counter(outcome.code for outcome in refused).items()
        },
    }


def count(server: TritonServer) -> Counter[str]:
    """Return what the server counted so far: refusals, by both of its ways, and decoded videos."""
    counts: Counter[str] = Counter()
    for name, value in read_metrics(server).items():
        if (
            name.startswith("nv_inference_request_failure{") and 'reason="REJECTED"' in name
        ) or name == 'groundserve_errors_total{class="UnavailableError"}':
            counts["refused"] += int(value)
        elif name == 'groundserve_stage_seconds_count{stage="decode"}':
            counts["decoded"] += int(value)
    return counts


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Return p50, p95 and p99; nothing for no values."""
    if not seconds:
        return {}
    values = np.percentile(seconds, [50, 95, 99])
    return dict(zip(("p50", "p95", "p99"), values.tolist(), strict=True))


def main() -> None:
    """Serve, measure the capacity, overload."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="of each load")
    parser.add_argument("--slo-seconds", type=float, default=2.0)
    parser.add_argument("--num-frames", type=int, default=16)
    parser.add_argument("--checkpoint", type=Path, default=SEEDED_CHECKPOINT)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        served(Path(name), args.checkpoint) as (server, url),
        Client(url) as client,
    ):
        requests = good_requests(Path(name), args.num_frames)
        capacity(client, requests, WARM_UP_SECONDS)
        rate = capacity(client, requests, args.seconds)
        loads = {}
        for share in SHARES:
            before = count(server)
            outcomes = offer(client, requests, share * rate, args.seconds)
            time.sleep(SETTLE_SECONDS)
            counted = count(server)
            counted.subtract(before)
            loads[f"{share:.0%}"] = judge(outcomes, args.seconds, args.slo_seconds) | {
                "refused_by_metrics": counted["refused"],
                "decoded_per_answer": counted["decoded"]
                / sum(outcome.code == "ok" for outcome in outcomes),
            }
    p99 = {share: load["accepted_seconds"]["p99"] for share, load in loads.items()}
    results = {
        "capacity_per_second": rate,
        "slo_seconds": args.slo_seconds,
        "loads": loads,
        "p99_over_p99_at_80%": {share: p99[share] / p99["80%"] for share in ("200%", "400%")},
    }
    write_report(args.out, "latency and refusals at shares of the capacity", results)


if __name__ == "__main__":
    main()
