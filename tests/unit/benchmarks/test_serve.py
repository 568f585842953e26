"""Which loads one way to ask is measured with."""

from __future__ import annotations

import pytest

from benchmarks._generator import Load
from benchmarks._loops import Windows
from benchmarks._workload import Workload
from benchmarks.serve import NUMBERS_A_LOAD, measure, numbered
from groundserve import ScoreOptions

LOAD = Load(
    way="http",
    address="127.0.0.1:8000",
    server_pid=None,
    workload=Workload(videos=(b"",), options=ScoreOptions()),
    cached_share=1.0,
    windows=Windows(seconds=1.0, warm_up_seconds=1.0, most=3, stability=0.1),
    timeout_seconds=1.0,
    slo_seconds=1.0,
    seed=40,
    first_number=0,
)


class Server:
    """Answers 10 a second a client, and 25 at most."""

    def __init__(self):
        self.loads = []

    def run(self, load):
        self.loads.append(load)
        offered = load.rate or 10 * load.num_clients
        return {"answers_per_second": min(25, offered)}


def test_open_loops_are_at_shares_of_the_best_closed_one():
    server, analyzed = Server(), []
    found = measure(
        server.run,
        numbered(LOAD),
        clients=[1, 4, 2],
        shares=[0.5, 2.0],
        rates=[7.0],
        analyze=lambda load: analyzed.append(load.num_clients) or {},
    )
    assert found["capacity_per_second"] == 25
    assert {name: one["answers_per_second"] for name, one in found["closed_loop"].items()} == {
        "1 clients": 10,
        "4 clients": 25,
        "2 clients": 20,
    }
    assert list(found["open_loop"]) == ["0.5 of capacity", "2 of capacity", "7 per second"]
    assert [one.num_clients for one in server.loads] == [1, 4, 2, None, None, None]
    assert [one.rate for one in server.loads] == [None, None, None, 12.5, 50.0, 7.0]
    assert [one.seed for one in server.loads] == list(range(40, 46))
    assert [one.first_number for one in server.loads] == [n * NUMBERS_A_LOAD for n in range(6)]
    assert analyzed == [1, 4, 2]
    assert list(found["perf_analyzer"]) == list(found["closed_loop"])


@pytest.mark.parametrize(("clients", "rates"), [([], [7.0]), ([1], [])])
def test_loops_that_are_left_out(clients, rates):
    found = measure(Server().run, numbered(LOAD), clients=clients, shares=[], rates=rates)
    assert (len(found["closed_loop"]), len(found["open_loop"])) == (len(clients), len(rates))
    assert "perf_analyzer" not in found
