"""Which loads one way to ask is measured with."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from benchmarks import serve
from benchmarks._generator import Load
from benchmarks._loops import Windows
from benchmarks._workload import Workload
from benchmarks.serve import NUMBERS_A_LOAD, measure, numbered
from groundserve import ScoreOptions, UnavailableError

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


class Triton:
    """A server that ends while it is used, unless it is told to live."""

    lives = False
    grpc_address = http_address = "127.0.0.1:1"
    pid = 1
    exit_status = -6

    def __init__(self, engines, *, log_file, **settings):
        log_file.write_text("why")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def is_running(self):
        return self.lives


@pytest.mark.parametrize("has_out", [True, False])
def test_log_of_a_server_that_ended_is_kept(has_out, tmp_path, monkeypatch):
    monkeypatch.setattr(serve, "TritonServer", Triton)
    monkeypatch.setattr(serve.tempfile, "mkdtemp", lambda: str(tmp_path))
    folder = tmp_path / "removed"
    folder.mkdir()
    args = SimpleNamespace(
        url=[],
        engines=tmp_path,
        by_uri=False,
        videos=[],
        out=tmp_path / "a.json" if has_out else None,
    )
    with pytest.raises(UnavailableError) as caught, serve.target(args, folder):
        raise UnavailableError("the server's process 1 ended")
    kept = tmp_path / ("a.tritonserver.log" if has_out else "serve.tritonserver.log")
    assert str(caught.value) == (
        f"the server's process 1 ended; tritonserver ended with status -6, its log is {kept}"
    )
    assert kept.read_text() == "why"


def test_no_log_is_kept_of_a_server_that_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(serve, "TritonServer", Triton)
    monkeypatch.setattr(Triton, "lives", True)
    out = tmp_path / "a.json"
    args = SimpleNamespace(url=[], engines=tmp_path, by_uri=False, videos=[], out=out)
    with (
        pytest.raises(UnavailableError, match=r"^no answer$"),
        serve.target(args, tmp_path),
    ):
        raise UnavailableError("no answer")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["tritonserver.log"]
