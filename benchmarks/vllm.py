"""What profile `vllm` costs and gives beside others, through the real server.

    python -m benchmarks.vllm profiles --engines DIR --engines DIR --video FILE --out JSON
    python -m benchmarks.vllm fair --engines DIR --video FILE --out JSON
    python -m benchmarks.vllm aborts --engines DIR --video FILE --out JSON
    python -m benchmarks.vllm kills --engines DIR --video FILE --out JSON
    python -m benchmarks.vllm sending --engines DIR --out JSON

`profiles`: seconds to load, memory of all processes, the first answer, the first text of later
ones, and 16 callers at one time, whose answers must be those that each gets alone. `fair`: a short
question alone and beside a request of 32 long ones, and that request alone and beside short ones.
`aborts` and `kills`: of callers and of vLLM. `sending`: what a prompt's embeddings cost on their
way, of a decoder behind vLLM's socket.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks._command import existing_file, positive, run
from benchmarks._report import describe_video, spread, write_report
from benchmarks._server import server_of
from groundserve import AnswerOptions, Client
from groundserve.engines.manifest import DECODER_NAME
from groundserve.errors import GroundserveError, UnavailableError
from groundserve.runtime.deadline import Deadline
from groundserve.serving import Supervisor, TritonServer
from python_backend.generate.vllm import VllmDecoder
from python_backend.generate.vllm_call import _body
from python_backend.generate.vllm_process import UnixConnection, VllmEngine

_SECONDS = 600.0
_CALLERS = 16
_SHORT = AnswerOptions(task="chat", max_new_tokens=16)
_LONG_QUERIES = [f"Question {number}: " + "what is it? " * 50 for number in range(32)]
"""Of 32 questions, which may have 24 KiB together."""
_RUNNING = "vllm:num_requests_running"
_WAITING = "vllm:num_requests_waiting"


@contextmanager
def served(engines: Path) -> Iterator[tuple[TritonServer, Client]]:
    """Serve a directory with a feature cache, so that later questions on a video cost no vision."""
    with tempfile.TemporaryDirectory() as folder:
        server = server_of(engines, Path(folder), cache_dir=Path(folder) / "cache")
        with server, Client(f"grpc://{server.grpc_address}", timeout_seconds=_SECONDS) as client:
            yield server, client


def vllm_metric(server: TritonServer, name: str) -> float:
    """Return one of vLLM's own metrics."""
    assert server.vllm is not None, "engines of profile vllm"
    connection = UnixConnection(server.vllm.socket, timeout=_SECONDS)
    try:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    finally:
        connection.close()
    return sum(float(one.rpartition(" ")[2]) for one in lines if one.startswith(f"{name}{{"))


def is_idle(server: TritonServer) -> bool:
    """Tell whether nothing runs or waits in vLLM."""
    return vllm_metric(server, _RUNNING) == vllm_metric(server, _WAITING) == 0


def tokens(client: Client, video: Path, query: str) -> list[int]:
    """Ask a short question."""
    found: list[int] = client.ask(video, query, _SHORT).answers[0].token_ids.tolist()
    return found


def wait_until(happened: Callable[[], bool]) -> float:
    """Wait, and return the seconds that it took."""
    started = time.perf_counter()
    while not happened():
        if time.perf_counter() - started > _SECONDS:
            raise SystemExit("it did not happen")
        time.sleep(0.02)
    return time.perf_counter() - started


def timed(call: Callable[[], Any]) -> float:
    """Return the seconds of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def measure_profile(engines: Path, video: Path, *, rounds: int) -> dict[str, Any]:
    """Measure the start of a server, its memory, the first text, and many callers."""
    started = time.perf_counter()
    with served(engines) as (server, client):
        start_seconds = time.perf_counter() - started
        first = timed(lambda: client.ask(video, "When?", _SHORT))
        roots = [server.pid, *([server.vllm.pid] if server.vllm else [])]
        resident = {
            name: sum(_resident_mib(root) for root in found)
            for name, found in (("all_processes", roots), ("vllm", roots[1:]))
        }
        until_token, whole = [], []
        for number in range(8):
            asked = time.perf_counter()
            told: list[float] = []
            client.ask(
                video,
                f"What is it, {number}?",
                _SHORT,
                on_text=lambda *_, told=told: told.append(time.perf_counter()),
            )
            whole.append(time.perf_counter() - asked)
            until_token += [told[0] - asked] if told else []
        callers = measure_callers(client, video, rounds=rounds)
    return {
        "profile": server.check_engines().profile,
        "callers": callers,
        "start_seconds": start_seconds,
        "first_answer_seconds": first,
        "first_text_seconds": spread(until_token),
        "answer_seconds": spread(whole),
        "resident_mib": resident,
    }


def _resident_mib(pid: int | None) -> float:
    root = psutil.Process(pid)
    return float(sum(one.memory_info().rss for one in [root, *root.children(recursive=True)]) >> 20)


def measure_callers(client: Client, video: Path, *, rounds: int) -> dict[str, Any]:
    """Have callers ask at one time."""
    queries = [f"What is it, {number}?" for number in range(_CALLERS)]
    alone = [tokens(client, video, query) for query in queries]
    with ThreadPoolExecutor(_CALLERS) as pool:
        started = time.perf_counter()
        asked = [pool.submit(tokens, client, video, one) for one in queries * rounds]
        found = [one.result() for one in asked]
        seconds = time.perf_counter() - started
    return {
        "callers": _CALLERS,
        "requests": len(found),
        "requests_per_second": len(found) / seconds,
        "tokens_per_second": sum(map(len, found)) / seconds,
        "answers_equal_alone": found == alone * rounds,
    }


def measure_fairness(engines: Path, video: Path) -> dict[str, Any]:
    """Ask a short question beside a request of 32 long ones."""
    with served(engines) as (server, client):
        client.ask(video, "When?", _SHORT)  # from here on the features are in the cache
        long_alone = []

        def ask_long() -> int:
            result = client.ask(video, _LONG_QUERIES, _SHORT)
            return max(len(one.prompt_token_ids) for one in result.answers) + (
                result.generation.prefix_tokens - 1
            )

        def ask_short(number: int) -> float:
            return timed(lambda: client.ask(video, f"When is {number}?", _SHORT))

        positions = ask_long()  # vLLM has the prefix from here on, in both runs
        long_alone = [timed(ask_long) for _ in range(2)]
        short_alone = [ask_short(number) for number in range(12)]
        beside: list[float] = []
        long_beside = []
        for _ in range(2):
            thread = threading.Thread(target=lambda: long_beside.append(timed(ask_long)))
            thread.start()
            while thread.is_alive():
                beside.append(ask_short(len(beside)))
                time.sleep(short_alone[0])
            thread.join()
    alone, median = statistics.median(short_alone), statistics.median(beside)
    return {
        "profile": server.check_engines().profile,
        "positions_of_a_prompt_at_most": positions,
        "questions": len(_LONG_QUERIES),
        "short_alone_seconds": spread(short_alone),
        "short_beside_seconds": spread(beside),
        "short_beside_over_alone": median / alone,
        "short_worst_over_alone": max(beside) / alone,
        "long_alone_seconds": spread(long_alone),
        "long_beside_seconds": spread(long_beside),
        "long_beside_over_alone": statistics.median(long_beside) / statistics.median(long_alone),
    }


def measure_aborts(engines: Path, video: Path, *, times: int) -> dict[str, Any]:
    """Have callers leave amid an answer, beside others who stay."""
    with served(engines) as (server, client), ThreadPoolExecutor(_CALLERS) as pool:
        queries = [f"What is it, {number}?" for number in range(4)]
        alone = [tokens(client, video, query) for query in queries]
        idle_seconds, unequal, left = [], 0, 0
        draws = AnswerOptions(task="chat", max_new_tokens=512, temperature=2.0, seed=1)
        while left < times:
            leaving = [
                Client(f"grpc://{server.grpc_address}", timeout_seconds=_SECONDS) for _ in range(8)
            ]
            gone = [pool.submit(one.ask, video, _LONG_QUERIES, draws) for one in leaving]
            wait_until(lambda: vllm_metric(server, _RUNNING) > 0)
            stayed = [pool.submit(tokens, client, video, query) for query in queries]
            for one in leaving:
                one.close()
            for future in gone:
                with suppress(GroundserveError):
                    future.result()
                    raise SystemExit("a caller who left got an answer")
            left += len(gone)
            unequal += [one.result() for one in stayed] != alone
            idle_seconds.append(wait_until(lambda: is_idle(server)))
    return {
        "left": left,
        "rounds_with_unequal_answers": unequal,
        "seconds_until_vllm_is_idle": spread(idle_seconds),
    }


def measure_kills(engines: Path, video: Path, *, times: int) -> dict[str, Any]:
    """Kill vLLM's worker again and again, and see when an honest caller is answered again."""
    errors: dict[str, int] = {}
    back, load = [], []
    with served(engines) as (server, client):
        assert server.vllm is not None
        expected = tokens(client, video, "When?")
        supervisor, ended = Supervisor(server), threading.Event()

        def watch() -> None:
            while not ended.wait(0.2):
                supervisor.check()

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            for number in range(times):
                family = psutil.Process(server.vllm.pid).children(recursive=True)
                killed = time.perf_counter()
                (family[-1] if number % 2 else psutil.Process(server.vllm.pid)).kill()
                while True:
                    try:
                        if tokens(client, video, "When?") != expected:
                            raise SystemExit("another answer")
                        if supervisor.board.counters["vllm_restarts"] > number:
                            break
                    except UnavailableError as error:
                        kind = type(error).__name__
                        errors[kind] = errors.get(kind, 0) + 1
                    time.sleep(0.2)
                back.append(time.perf_counter() - killed)
                print(f"{number + 1}/{times}: back after {back[-1]:.1f} s", flush=True)
        finally:
            ended.set()
            watcher.join()
        load.append(timed(lambda: _reload(server.vllm)))
    return {
        "kills": times,
        "seconds_until_answered": spread(back),
        "seconds_of_a_load": load[0],
        "errors_meanwhile": errors,
        "tritonserver_restarts": supervisor.board.counters["server_restarts"],
    }


def _reload(vllm: VllmEngine | None) -> None:
    assert vllm is not None
    vllm.launch()
    vllm.wait_until_ready()


def measure_sending(engines: Path, *, times: int) -> dict[str, Any]:
    """Send prompts of as many embeddings as there is room for, whose keys vLLM has already."""
    config = json.loads((engines / DECODER_NAME / "config.json").read_text("utf-8"))
    num_rows, width = config["max_position_embeddings"] - 16, config["hidden_size"]
    rows = np.random.default_rng(0).standard_normal((num_rows, width), np.float32) * 0.02
    sizes = {}
    with VllmEngine.start(engines) as engine:
        decoder = VllmDecoder(str(engine.socket))
        for number in (129, num_rows // 4, num_rows // 2, num_rows):
            encode = partial(_body, {"max_tokens": 1, "temperature": 0.0}, rows[:number])
            complete = partial(
                decoder.complete,
                rows[: number - 1],
                [rows[number - 1 : number]],
                AnswerOptions(max_new_tokens=1),
                seed=None,
                end_ids=frozenset(),
                deadline=Deadline.after(_SECONDS),
            )
            first = timed(complete)  # from here on vLLM has the prompt, but for its last block
            sizes[number] = {
                "encoded_megabytes": len(encode()) / 1e6,
                "encode_seconds": spread([timed(encode) for _ in range(times)]),
                "first_answer_seconds": first,
                "answer_of_one_token_seconds": spread([timed(complete) for _ in range(times)]),
            }
    return {"width": width, "num_layers": config["num_hidden_layers"], "by_positions": sizes}


def main() -> None:
    """Measure one of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = ("profiles", "fair", "aborts", "kills", "sending")
    parser.add_argument("kind", choices=kinds)
    parser.add_argument("--engines", type=Path, action="append", required=True)
    parser.add_argument("--video", type=existing_file)
    parser.add_argument("--times", type=positive, default=4, help="rounds, aborts or kills")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    calls: dict[str, Callable[[Path], dict[str, Any]]] = {
        "profiles": lambda one: measure_profile(one, args.video, rounds=args.times),
        "fair": lambda one: measure_fairness(one, args.video),
        "aborts": lambda one: measure_aborts(one, args.video, times=args.times),
        "kills": lambda one: measure_kills(one, args.video, times=args.times),
        "sending": lambda one: measure_sending(one, times=args.times),
    }
    found: Sequence[dict[str, Any]] = [calls[args.kind](one) for one in args.engines]
    load = psutil.getloadavg()
    write_report(
        args.out,
        f"profile vllm: {args.kind}",
        {"runs": found, "load_average_at_the_end": load},
        inputs=[describe_video(args.video)] if args.video else [],
        repeats=args.times,
    )


if __name__ == "__main__":
    run(main)
