"""The gateway in front of real servers: the command line's JSON, and what kills cost."""

from __future__ import annotations

import ctypes
import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import httpx2
import openai
import psutil
import pytest

from benchmarks._gateway import lasting, load, point_to, store
from benchmarks._program import Program
from groundserve import AnswerOptions, Client, ScoreOptions
from tests.cli.command import run_cli
from tests.support.answer_cases import CASES
from tests.triton.answers import url
from tests.triton.program import serving
from tests.unit.gateway.conftest import WAIT_SECONDS, gateway, wait_until

FAMILIES = {
    "videoitg": "served",
    "vtimellm": "answering",
    "vtgllm": "timed",
    "grounded_videollm": "grounded",
}
"""Each with the fixture of its server."""
QUERIES = ["Où est le vélo ?", "a car passes"]


class Upstream:
    """What the gateway's tests know of a server."""

    def __init__(self, server) -> None:
        self.url = url(server.triton)


@pytest.fixture(scope="module")
def client(served, answering, timed, grounded, video_root) -> Iterator[httpx2.Client]:
    """A gateway in front of servers of all families."""
    servers = map(Upstream, (served, answering, timed, grounded))
    with gateway(video_root, *servers) as opened:
        yield opened


@pytest.fixture(scope="module")
def video(clips):
    return clips["carphone_pristine"]


def asked(client, kind, video, queries, **options) -> httpx2.Response:
    answer = client.post(
        f"/v1/{kind}",
        files={"video": (video.name, video.read_bytes())},
        data={"query": queries, "options": json.dumps(options)},
    )
    assert answer.status_code == 200, answer.text
    return answer


def streamed(answer: httpx2.Response) -> tuple[list[dict], str]:
    """The pieces of text, and the answer's JSON."""
    lines = answer.text.splitlines()
    pairs = zip(lines[::3], lines[1::3], strict=True)
    events = [tuple(line.partition(": ")[2] for line in pair) for pair in pairs]
    assert [name for name, _ in events] == ["text"] * (len(events) - 1) + ["result"]
    return [json.loads(data) for _, data in events[:-1]], events[-1][1]


def by_command(kind, server, video, queries, *options) -> str:
    words = [kind, str(video), "--server", server, "--json", "--quiet", *options]
    for query in queries:
        words += ["--query", query]
    finished = run_cli(*words)
    assert finished.code == 0, finished.stderr
    return finished.stdout


def test_every_family_answers_as_the_command_line(request, client, video):
    names = [one["id"] for one in client.get("/v1/models").json()["data"]]
    assert set(names) == FAMILIES.keys()
    for family, fixture in FAMILIES.items():
        server = Upstream(request.getfixturevalue(fixture)).url
        if family == "videoitg":
            printed = by_command("score", server, video, QUERIES, "--top-k", "4")
            answer = asked(client, "score", video, QUERIES, top_k=4, model=family)
        else:
            printed = by_command("ask", server, video, QUERIES, "--max-new-tokens", "6")
            answer = asked(client, "ask", video, QUERIES, max_new_tokens=6, model=family)
            both = {"max_new_tokens": 6, "model": family, "stream": True}
            pieces, result = streamed(asked(client, "ask", video, QUERIES, **both))
            assert lasting(result) == lasting(printed)
            for number, one in enumerate(json.loads(result)["answers"]):
                parts = [piece["text"] for piece in pieces if piece["query"] == number]
                assert one["text"].startswith("".join(parts))
        assert lasting(answer.text) == lasting(printed)
        assert answer.json()["video"] == video.name
        # Key by key in the same order, as it was written.
        assert list(answer.json()) == list(json.loads(printed))


@pytest.mark.parametrize("stream", [False, True])
def test_recorded_cases(client, clips, stream):
    cases = [case for case in CASES if case.model == "stage3"]
    assert len(cases) == 6
    for case in cases:
        options = json.loads(case.options.to_json()) | {"model": "vtimellm", "stream": stream}
        answer = asked(client, "ask", case.path(clips), [case.query], **options)
        (one,) = json.loads(streamed(answer)[1] if stream else answer.text)["answers"]
        assert one["token_ids"] == case.token_ids, case.name
        assert one["text"] == case.text, case.name


@pytest.mark.parametrize("stream", [False, True])
def test_chat_gives_the_recorded_answers(client, clips, stream):
    with openai.OpenAI(base_url=f"{client.server.url}/v1", api_key="none") as chat:
        for case in [case for case in CASES if case.model == "stage3"]:
            stored = client.post("/v1/videos", content=case.path(clips).read_bytes()).json()["id"]
            options = json.loads(case.options.to_json())
            content = [{"type": "video_url", "video_url": {"url": stored}}]
            content.append({"type": "text", "text": case.query})
            answer = chat.chat.completions.create(
                model="vtimellm",
                messages=[{"role": "user", "content": content}],
                max_tokens=options.pop("max_new_tokens"),
                temperature=options.pop("temperature"),
                extra_body=options,
                stream=stream,
            )
            if stream:
                text = "".join(one.choices[0].delta.content or "" for one in answer)
            else:
                text = answer.choices[0].message.content
                assert answer.usage.completion_tokens == len(case.token_ids)
            assert text == case.text, case.name


def test_a_client_of_the_gateway_has_the_results_of_the_server(
    served, answering, video_root, video
):
    both = Upstream(served), Upstream(answering)
    with gateway(video_root / "both", *both) as opened, Client(opened.server.url) as through:
        with Client(both[0].url) as direct:
            scores = [
                one.score(video, QUERIES, ScoreOptions(top_k=4)).to_json()
                for one in (direct, through)
            ]
        assert lasting(json.dumps(scores[0])) == lasting(json.dumps(scores[1]))
        with Client(both[1].url) as direct:
            answers, pieces = [], ([], [])
            for one, told in zip((direct, through), pieces, strict=True):
                options = AnswerOptions(max_new_tokens=6)
                on_text = partial(keep, told)
                answers.append(one.ask(video, QUERIES, options, on_text=on_text).to_json())
        assert lasting(json.dumps(answers[0])) == lasting(json.dumps(answers[1]))
        for told in pieces:  # which may be cut elsewhere
            for number, answer in enumerate(answers[0]["answers"]):
                text = "".join(text for query, text in told if query == number)
                assert answer["text"].startswith(text)


def keep(told: list[tuple[int, str]], *piece) -> None:
    told.append(piece)


def test_a_video_that_is_none_is_told_so(client):
    answer = client.post("/v1/score", files={"video": ("a.mp4", b"no video")}, data={"query": "a"})
    assert answer.status_code == 422
    assert answer.json()["error"]["type"] == "MediaError"
    assert "/" not in answer.json()["error"]["message"]


@contextmanager
def program(folder, *upstreams) -> Iterator[tuple[subprocess.Popen, httpx2.Client]]:
    """`groundserve gateway` as a process."""
    options = [word for one in upstreams for word in ("--upstream", one.url)]
    folder.mkdir(exist_ok=True)
    started = Program(
        folder, "gateway", *options, "--spool", folder / "spool", "--port", 0, "--json"
    )
    try:
        started.wait_until_ready()
        with httpx2.Client(base_url=started.addresses["gateway"], timeout=WAIT_SECONDS) as client:
            wait_until(lambda: client.get("/readyz").status_code == 200)
            yield started.program, client
    finally:
        started.kill()


def test_jobs_outlive_a_gateway_that_is_killed(served, video_root, video, tmp_path_factory):
    folder = video_root / "killed"
    with program(folder, Upstream(served)) as (process, client):
        files = {"video": (video.name, video.read_bytes())}
        data = {"query": "a", "options": json.dumps({"background": True, "num_frames": 64})}
        jobs = [client.post("/v1/score", files=files, data=data).json()["id"] for _ in range(6)]
        process.send_signal(signal.SIGKILL)
        process.wait()
    with program(folder, Upstream(served)) as (process, client):

        def ended():
            told = [client.get(f"/v1/jobs/{job}").json() for job in jobs]
            return told if all(one["finished_at"] for one in told) else None

        told = wait_until(ended)
        assert {one["status"] for one in told} == {"done"}
        results = {lasting(json.dumps(one["result"])) for one in told}
        assert len(results) == 1
        assert lasting(asked(client, "score", video, ["a"], num_frames=64).text) in results
        process.terminate()
        assert process.wait(WAIT_SECONDS) == 0


def asking(client, video, answers):
    """Four threads ask again and again; each answer's status and JSON are kept."""
    video_id = store(client, video)

    def ask(_) -> tuple[int, dict]:
        answer = client.post(
            "/v1/score", json={"video_id": video_id, "queries": ["a"], "num_frames": 8}
        )
        return answer.status_code, answer.json()

    return load(ask, answers)


@pytest.fixture
def service(engine_dirs, tmp_path):
    """`groundserve serve --gateway`, its engines behind a link."""
    engines = tmp_path / "engines"
    engines.symlink_to(engine_dirs["cpu"])
    options = ["--gateway", "0", "--spool", tmp_path / "spool"]
    with (
        serving(engines, tmp_path, options=options) as started,
        httpx2.Client(base_url=started.addresses["gateway"], timeout=WAIT_SECONDS) as client,
    ):
        wait_until(lambda: client.get("/readyz").status_code == 200)
        yield started, client


def hang_up(started: Program) -> None:
    """Send SIGHUP to a thread that is not the main one, as the kernel may."""
    pid, tgkill = started.program.pid, ctypes.CDLL(None).tgkill
    others = [one.id for one in started.root.threads() if one.id != pid]
    assert any(tgkill(pid, other, signal.SIGHUP) == 0 for other in others)


def test_sighup_switches_the_server_and_fails_nothing(service, video, engine_dirs, tmp_path):
    started, client = service
    answers: list[tuple[int, dict]] = []
    with asking(client, video, answers):
        wait_until(lambda: len(answers) > 3)
        point_to(tmp_path / "engines", tmp_path)  # no engine directory
        hang_up(started)
        assert "manifest" in started.wait_for("switch_failed")["reason"]
        point_to(tmp_path / "engines", engine_dirs["cpu"])
        started.program.send_signal(signal.SIGHUP)
        pid = started.wait_for("switched")["pid"]
        num_before = len(answers)
        wait_until(lambda: len(answers) > num_before + 3)
    assert pid != started.addresses["pid"]
    assert not psutil.pid_exists(started.addresses["pid"])
    assert {status for status, _ in answers} == {200}


def test_a_killed_server_costs_no_accepted_request(service, video):
    started, client = service
    answers: list[tuple[int, dict]] = []
    with asking(client, video, answers):
        wait_until(lambda: len(answers) > 3)
        psutil.Process(started.addresses["pid"]).kill()
        started.wait_for("server_restarted")
        num_before = len(answers)
        wait_until(lambda: len(answers) > num_before + 3)
    assert {status for status, _ in answers} <= {200, 503}
    assert all(told["error"]["type"] for status, told in answers if status == 503)
    assert answers[-1][0] == 200
