"""docs/train_your_own.md, word by word but for its numbers: two videos, two steps."""

from __future__ import annotations

import json
import re
import shlex
import sys

import pytest

from groundserve.cli.main import main
from tests.support.reference import REPOSITORY
from train.digits import dataset

PAGE = (REPOSITORY / "docs" / "train_your_own.md").read_text("utf-8")
COMMANDS = "".join(re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
CONFIG = REPOSITORY / "examples" / "your_own.toml"


def lines(beginning):
    """Return the commands of the page that begin so, as arguments."""
    found = [shlex.split(line) for line in COMMANDS.splitlines() if line.startswith(beginning)]
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


def test_the_page_leads_from_videos_to_scores(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "groundserve").symlink_to(REPOSITORY / "groundserve")
    (tmp_path / "examples").mkdir()
    text = CONFIG.read_text("utf-8").replace("epochs = 3", "max_steps = 2")
    (tmp_path / "examples" / CONFIG.name).write_text(text)

    for command in lines("python -m train.digits.dataset"):
        command[command.index("--num-videos") + 1] = "2"
        monkeypatch.setattr(sys, "argv", command[2:])
        dataset.main()
    (script,) = re.findall(r"^python - <<'EOF'\n(.*?)^EOF$", COMMANDS, re.MULTILINE | re.DOTALL)
    exec(compile(script, "the page's script", "exec"), {})
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
