"""`groundserve eval qa` and `qa-table` through their entry point, against a server on loopback."""

from __future__ import annotations

import base64
import io
import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import av
import numpy as np
import openai
import pytest
from PIL import Image

from groundserve.evaluation.qa import answering
from tests.cli.command import run_cli
from tests.cli.steps import assert_one_error, without_steps
from tests.unit.evaluation.qa.chat_server import Act, chat_server, images_of, in_turn, text_of

NUM_FRAMES, FPS = 24, 4
STEP = 10
"""Between the grey of a frame and that of the next."""
RIGHT, WRONG = Act("B"), Act("A")


def write_video(path: Path) -> None:
    """Frame i is grey, 10 i."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"qp": "0"})
        stream.width, stream.height = 96, 64
        stream.pix_fmt = "yuv420p"
        for number in range(NUM_FRAMES):
            picture = np.full((64, 96, 3), STEP * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Two videos, three questions about each with the seconds 2 to 3 labelled, and records."""
    root = tmp_path_factory.mktemp("media")
    records, selections = [], []
    for number in range(6):
        name = f"v{number // 3}"
        if number % 3 == 0:
            write_video(root / f"{name}.mp4")
        records.append(
            {
                "qid": 100 + number,
                "video_uid": name,
                "question": f"Question {number}?",
                "choices": ["x", "y", "z"],
                "right_answer": "B",
                "clue_intervals": [[2, 3]] if number != 5 else [],
            }
        )
        selections.append({"doc_id": number, "index": [9, 3, 20, 7, 1]})
    (root / "set.json").write_text(json.dumps(records))
    (root / "selected.jsonl").write_text("".join(json.dumps(it) + "\n" for it in selections))
    return root


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    monkeypatch.setattr(openai._base_client, "INITIAL_RETRY_DELAY", 0.0)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def run(media, tmp_path):
    """The command with what it always needs: the server's URL first, then other options."""

    def run(url, *options, arms=("uniform", "selected"), out="run", env=None):
        selected = ("--records", media / "selected.jsonl") if "selected" in arms else ()
        return run_cli(
            *("eval", "qa", media / "set.json", "--layout", "cgbench", "--media-root", media),
            *("--out", tmp_path / out, "--endpoint", url, "--model", "m", "--top-k", 3),
            *(it for arm in arms for it in ("--arm", arm)),
            *selected,
            *options,
            env=env,
        )

    return run


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def greys(request):
    """The numbers of the frames that a request shows."""
    levels = []
    for url in images_of(request):
        head, _, data = url.partition(",")
        assert head == "data:image/jpeg;base64"
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        levels.append(np.asarray(picture).mean())
    # Lossless video; colour conversion and JPEG each move a level by 2 at most, a step is 10.
    return [round(level / STEP) for level in levels]


def arm_of(request):
    return {0: "none", (0, 11, 23): "uniform", (3, 9, 20): "selected"}.get(
        tuple(greys(request)) or 0, "oracle"
    )


def test_each_arm_shows_its_frames_and_is_measured(run, tmp_path):
    """Right from selected and oracle frames, half right from uniform ones, refused without any."""

    def script(request):
        arm = arm_of(request)
        number = int(text_of(request).partition("Question ")[2][0])
        if arm == "none":
            return Act(refusal="I see nothing.", usage=(50, 3))
        return RIGHT if arm != "uniform" or number % 2 else WRONG

    arms = ("none", "uniform", "selected", "oracle")
    with chat_server(script) as server:
        code, out, err = run(
            *(server.url, "--json", "--price-in", 2, "--price-out", 10, "--concurrency", 3),
            arms=arms,
        )
        assert code == 0, err
        assert len(server.requests) == 6 + 6 + 6 + 5
        assert server.most_at_once <= 3
    # Lines of greys: 2 to 3 s of 4 frames a second are frames 8 to 12.
    shown = {arm_of(request): greys(request) for request in server.requests}
    assert shown == {
        "none": [],
        "uniform": [0, 11, 23],
        "selected": [3, 9, 20],
        "oracle": [8, 10, 12],
    }
    asked = {text_of(request) for request in server.requests}
    assert len(asked) == 6
    assert all(text.startswith("This video's subtitles are listed below: \n") for text in asked)
    answer = json.loads(out)
    report = answer["report"]
    right = {arm: it["accuracy"]["value"] for arm, it in report["arms"].items()}
    assert right == {"none": 0.0, "uniform": 0.5, "selected": 1.0, "oracle": 1.0}
    assert report["arms"]["none"]["num_refused"] == 6
    assert report["arms"]["oracle"]["accuracy"]["num_questions"] == 5
    assert report["chance"] == pytest.approx(1 / 3)
    assert report["num_left"] == 0
    gain = report["differences"]["selected"]
    assert (gain["value"], gain["num_questions"], gain["num_videos"]) == (0.5, 6, 2)
    assert gain["low"] <= 0.5 <= gain["high"]
    assert report["differences"]["oracle"]["num_questions"] == 5
    assert report["arms"]["none"]["prompt_tokens"] == 300
    assert report["arms"]["none"]["cost"] == pytest.approx((300 * 2 + 18 * 10) / 1e6)
    assert answer["failures"] == {}
    kept = {(it["key"], it["arm"]): it for it in lines(tmp_path / "run" / "answers.jsonl")}
    assert len(kept) == 23
    assert kept["105", "selected"]["frame_indices"] == [3, 9, 20]
    is_right = [kept[f"10{number}", "uniform"]["is_right"] for number in range(6)]
    assert is_right == [False, True] * 3
    assert kept["105", "selected"]["usage"] == {"prompt_tokens": 100, "completion_tokens": 2}


def test_the_table_says_what_json_says(run):
    with chat_server(lambda request: RIGHT if arm_of(request) == "selected" else WRONG) as server:
        code, out, err = run(server.url)
    assert code == 0, err
    assert out.splitlines()[0] == "CG-Bench, m, at most 3 frames; percent right"
    rows = [line.split() for line in out.splitlines()]
    assert ["chance", "-", "6", "33.3"] in rows
    assert ["uniform", "3.0", "6", "0.0", "[0.0,", "0.0]"] in rows
    assert ["selected", "-", "uniform", "6", "+100.0", "[+100.0,", "+100.0]"] in rows
    assert (
        "selected: 0 refused, 0 without a letter, 0 unanswered, 600 + 12 tokens, retries: none"
        in out
    )


def test_a_run_goes_on_with_what_is_missing(run, tmp_path):
    """Of twelve questions the third and later ones fail; then a line is torn; then all is well."""
    good = in_turn(RIGHT, RIGHT, Act(status=500))
    with chat_server(good) as server:
        code, out, err = run(
            server.url, "--json", "--max-attempts", 2, "--concurrency", 1, "--seed", 1
        )
        assert code == 1
        assert len(server.requests) == 2 + 10 * 2
    answer = json.loads(out)
    assert answer["failures"] == {"server_error": 10}
    assert answer["report"]["num_left"] == 10
    assert "note: 10 failed (server_error), the first: the endpoint answered 500" in err
    assert "note: 10 answers are missing" in err
    path = tmp_path / "run" / "answers.jsonl"
    assert len(lines(path)) == 2
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rfind(b"\n", 0, -1) + 20])  # the second line is cut
    with chat_server(in_turn(RIGHT)) as server:
        code, out, err = run(server.url, "--json")
        assert code == 0, err
        assert len(server.requests) == 11
    assert json.loads(out)["report"]["num_left"] == 0
    kept = [(it["key"], it["arm"]) for it in lines(path)]
    assert len(kept) == len(set(kept)) == 12
    with chat_server(in_turn(RIGHT)) as server:
        assert run(server.url, "--json").stdout == out
        assert server.requests == []


def test_a_budget_stops_the_run_and_another_goes_on(run, tmp_path):
    with chat_server(in_turn(RIGHT)) as server:
        code, out, err = run(server.url, "--json", "--max-tokens", 300, "--concurrency", 1)
        # 102 tokens each: the third reaches it.
        assert (code, len(server.requests)) == (1, 3)
        assert json.loads(out)["is_budget_spent"] is True
        assert "note: stopped at --max-cost or --max-tokens" in err
        # What earlier commands took counts: 0.0003 are spent, and 0.0001 a reply from now on.
        prices = ("--price-in", 1, "--price-out", 0, "--max-cost", 0.0005)
        code, out, _ = run(server.url, "--json", *prices, "--concurrency", 1)
        assert (code, len(server.requests)) == (1, 5)
        code, out, _ = run(server.url, "--json")
        assert (code, len(server.requests)) == (0, 12)
    assert json.loads(out)["is_budget_spent"] is False


def test_an_endpoint_that_rejects_everything_ends_the_run(run, monkeypatch):
    monkeypatch.setattr(answering, "MAX_FAILURES_IN_A_ROW", 4)
    with chat_server(in_turn(Act("no images", status=400))) as server:
        code, _, err = run(server.url, "--concurrency", 1)
        assert (code, len(server.requests)) == (1, 4)
    assert_one_error(err, "the last: the endpoint answered 400: no images")
    with chat_server(in_turn(RIGHT, Act(status=400))) as server:
        code, out, _ = run(server.url, "--json", "--concurrency", 1)
        assert (code, len(server.requests)) == (1, 12)
    assert json.loads(out)["failures"] == {"rejected": 11}


def test_the_key_is_nowhere(run, tmp_path):
    """The endpoint repeats it in replies and errors, and logging says all that it can."""
    key = "sk-very-secret"
    acts = in_turn(Act(f"key {key}", status=500), Act(f"{key} B"), Act(f"no {key}", status=400))
    with chat_server(acts) as server:
        code, out, err = run(
            *(server.url, "--verbose", "--api-key-env", "MY_KEY", "--concurrency", 1),
            env={"MY_KEY": key},
        )
    assert code == 1
    assert set(server.keys) == {f"Bearer {key}"}
    assert "no ***" in err
    said = [out, err, *(path.read_text() for path in (tmp_path / "run").iterdir())]
    assert not [text for text in said if key in text]
    assert "*** B" in (tmp_path / "run" / "answers.jsonl").read_text()


def test_a_video_that_cannot_be_read_leaves_the_others(run, media, tmp_path):
    root = tmp_path / "media"
    root.mkdir()
    (root / "v0.mp4").write_bytes(b"no video")
    (root / "v1.mp4").symlink_to(media / "v1.mp4")
    with chat_server(in_turn(RIGHT)) as server:
        code, out, err = run(server.url, "--json", "--media-root", root)
        assert len(server.requests) == 6
    assert code == 1
    assert json.loads(out)["failures"] == {"video": 6}
    assert "v0: " in without_steps(err)


def test_videos_that_are_missing_are_skipped_and_asked_about_later(run, media, tmp_path):
    root = tmp_path / "media"
    root.mkdir()
    with chat_server(in_turn(RIGHT)) as server:
        code, _, err = run(server.url, "--media-root", root, "--skip-missing")
        assert code == 2
        assert_one_error(err, "2 of 2 videos are missing, the first is")
        assert "--skip-missing" not in err
        (root / "v1.mp4").symlink_to(media / "v1.mp4")
        code, _, err = run(server.url, "--media-root", root)
        assert (code, server.requests) == (2, [])
        assert_one_error(err, "1 of 2 videos are missing, the first is")
        code, out, err = run(server.url, "--json", "--media-root", root, "--skip-missing")
        assert (code, len(server.requests)) == (0, 6), err
    answer = json.loads(out)
    assert answer["skipped"] == {"num_videos": 1, "num_questions": 3}
    assert answer["report"]["num_questions"] == 3
    assert "note: 1 videos are missing: 3 questions skipped" in err
    with chat_server(in_turn(RIGHT)) as server:
        code, out, _ = run(server.url, "--json")
        assert (code, len(server.requests)) == (0, 6)
    assert json.loads(out)["report"]["num_questions"] == 6


def test_another_model_needs_another_folder(run):
    with chat_server(in_turn(RIGHT)) as server:
        assert run(server.url).code == 0
        code, _, err = run(server.url, "--model", "n", "--top-k", 2)
    assert code == 2
    assert "top_k: 3 before, 2 now" in err
    assert "model: m before, n now" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--arm", "best"), "--arm must be one of uniform, selected, oracle, none, got best"),
        (("--layout", "mme"), "--layout must be one of videomme, mlvu, longvideobench, cgbench"),
        (("--price-in", 1), "--price-in and --price-out go together"),
        (("--max-cost", 1), "max_cost needs the prices"),
        (("--endpoint", "localhost:8000"), "endpoint must be http"),
        (("--body", "[]"), "--body must be one JSON object"),
        (("--checkpoint", "digits"), "give one of --records and --checkpoint, not both"),
        (("--records", "/nowhere"), "cannot read /nowhere"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_asked(run, tmp_path, options, message):
    with chat_server(in_turn(RIGHT)) as server:
        code, _, err = run(server.url, *options)
        assert server.requests == []
    assert code == 2
    assert_one_error(err, message)
    assert not (tmp_path / "run").exists()


def test_oracle_frames_need_labels(run, media, tmp_path):
    records = json.loads((media / "set.json").read_text())
    path = tmp_path / "bare.json"
    path.write_text(json.dumps([{**record, "clue_intervals": []} for record in records]))
    code, _, err = run_cli(
        *("eval", "qa", path, "--layout", "cgbench", "--media-root", media, "--arm", "oracle"),
        *("--out", tmp_path / "run", "--endpoint", "http://h/v1", "--model", "m"),
    )
    assert code == 2
    assert_one_error(err, "--arm oracle needs labelled spans")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_what_came_before_an_end_is_kept(run, media, tmp_path, number, code):
    """A process of its own: one answer, then an endpoint that takes a minute; nobody waits."""
    with chat_server(in_turn(RIGHT, Act("B", seconds=60))) as server:
        command = (
            *(sys.executable, "-m", "groundserve", "eval", "qa", media / "set.json"),
            *("--layout", "cgbench", "--media-root", media, "--out", tmp_path / "run"),
            *("--endpoint", server.url, "--model", "m", "--arm", "uniform", "--top-k", "3"),
        )
        process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE)
        try:
            until = time.monotonic() + 60
            # The first one's connection serves the last: all six questions were sent.
            while len(server.requests) < 6 and time.monotonic() < until:
                time.sleep(0.02)
            process.send_signal(number)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == code, err
    assert len(server.requests) == 6
    path = tmp_path / "run" / "answers.jsonl"
    (first,) = lines(path)
    with chat_server(in_turn(RIGHT)) as server:
        assert run(server.url, arms=("uniform",)).code == 0
        assert len(server.requests) == 5
    assert lines(path)[0] == first
    assert len({line["key"] for line in lines(path)}) == len(lines(path)) == 6


def test_runs_make_the_papers_table(run, tmp_path):
    table = partial(run_cli, "eval", "qa-table")
    with chat_server(lambda request: RIGHT if arm_of(request) == "selected" else WRONG) as server:
        assert run(server.url, "--set-name", "first").code == 0
        assert run(server.url, "--set-name", "second", out="other").code == 0
    code, out, err = table(tmp_path / "run", tmp_path / "other")
    assert code == 0, err
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["model", "frames", "first", "second", "average"]
    assert ["m", "3", "uniform", "0.0", "0.0", "0.0"] in rows
    assert ["m", "3", "selected", "100.0", "100.0", "100.0"] in rows
    assert "second, m: selected - uniform +100.0 [+100.0, +100.0] (6 questions, 2 videos)" in out
    answer = json.loads(table(tmp_path / "run", "--json").stdout)
    assert answer["table"]["columns"] == ["first"]
    assert answer["runs"][0]["report"]["differences"]["selected"]["value"] == 1.0
    code, _, err = table(tmp_path)
    assert code == 2
    assert_one_error(err, "has no run of groundserve")
