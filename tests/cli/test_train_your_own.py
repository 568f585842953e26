"""docs/train_your_own*.md, word by word but for their numbers: few videos, two steps."""

from __future__ import annotations

import json
import re
import shlex
import sys

import pytest

from groundserve.cli.main import main
from tests.support.reference import REPOSITORY
from train.digits import dataset


def commands(page):
    """Return all that is typed in a page of the docs."""
    text = (REPOSITORY / "docs" / page).read_text("utf-8")
    return "".join(re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


COMMANDS, TEXT_COMMANDS = commands("train_your_own.md"), commands("train_your_own_text.md")
CONFIG = REPOSITORY / "examples" / "your_own.toml"


def lines(beginning, typed=COMMANDS):
    """Return the commands of the page that begin so, as arguments."""
    found = [shlex.split(line) for line in typed.splitlines() if line.startswith(beginning)]
    assert found, beginning
    return found


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a command in this process; returns its stdout."""

    def call(arguments):
        monkeypatch.setattr(sys, "argv", arguments)
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        assert not end.value.code, said.err
        return said.out

    return call


@pytest.fixture
def prepare(monkeypatch, tmp_path):
    """Copy a config, with two steps, and do what a page does to draw its videos and records."""

    def prepare(config, typed, *, num_videos):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "groundserve").symlink_to(REPOSITORY / "groundserve")
        (tmp_path / "examples").mkdir()
        text = re.sub(r"^epochs = \d+$", "max_steps = 2", config.read_text("utf-8"), flags=re.M)
        (tmp_path / "examples" / config.name).write_text(text)
        for command in lines("python -m train.digits.dataset", typed):
            command[command.index("--num-videos") + 1] = str(num_videos)
            monkeypatch.setattr(sys, "argv", command[2:])
            dataset.main()
        (script,) = re.findall(r"^python - <<'EOF'\n(.*?)^EOF$", typed, re.MULTILINE | re.DOTALL)
        exec(compile(script, "the page's script", "exec"), {})

    return prepare


def test_the_page_leads_from_videos_to_scores(call, tmp_path, prepare):
    prepare(CONFIG, COMMANDS, num_videos=2)
    records = json.loads((tmp_path / "runs/your_own/train/own.json").read_text())
    assert len(records) == 4
    assert {"video", "question", "frame_num"} == records[0].keys()

    (check,), (train,) = lines("groundserve train check"), lines("groundserve train grounding")
    assert "0.0% of the items would be lost" in " ".join(call(check).split())
    said = call(train)
    assert re.search(r"^checkpoint .*final: 2 steps, loss ", said)
    assert re.search(r"^best .*/run/best: step 2, frame AP \d", said, re.MULTILINE)

    (build,), (score,) = lines("groundserve build"), lines("groundserve score")
    assert build[build.index("--checkpoint") + 1] == "runs/your_own/run/best"
    call(build)
    server = score.index("--server")  # the engines of the server, without one
    scored = call([*score[:server], "--engines", "runs/your_own/engines", "--json"])
    answer = json.loads(scored.splitlines()[-1])
    assert len(answer["queries"][0]["frame_scores"]) == 24


def test_the_page_compares_the_best_with_its_start_on_the_records_of_validation():
    (command,) = lines("groundserve eval")
    options = dict(zip(command[2::2], command[3::2], strict=True))
    assert options == {
        "--records": "runs/your_own/validation/own.json",
        "--media-root": "runs/your_own/validation",
        "--checkpoint": "runs/your_own/run/best",
        "--baseline": "groundserve/checkpoints/digits",
    }


def test_the_page_leads_from_conversations_to_answers(call, tmp_path, prepare):
    config = REPOSITORY / "examples" / "your_own_text.toml"
    prepare(config, TEXT_COMMANDS, num_videos=8)
    (check,) = lines("groundserve train check", TEXT_COMMANDS)
    assert "0.0% of the items would be lost" in " ".join(call(check).split())
    (train,) = lines("groundserve train vtimellm-3", TEXT_COMMANDS)
    assert re.search(r"^checkpoint .*final: 2 steps, loss ", call(train))
    for measure in lines("groundserve eval moments", TEXT_COMMANDS):
        assert "R1@0.5" in call(measure)
    ((_, _, video, *rest),) = lines("groundserve ask", TEXT_COMMANDS)
    asked = ["groundserve", "ask", video, *rest[: rest.index("--server")], "--json"]
    answer = json.loads(call([*asked, "--checkpoint", "runs/your_own/text/final"]))
    assert answer["answers"][0]["text"]
