"""The notebooks of docs/ run from their first cell to their last; the training with less of all."""

from __future__ import annotations

import jupytext
import pytest
from nbclient import NotebookClient

from tests.support.reference import REPOSITORY
from tests.support.scripted_llm import ScriptedLlm


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Run a notebook; returns its cells with what they gave."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")

    def execute(name, *changes):
        text = (REPOSITORY / "docs" / f"notebook_{name}.md").read_text("utf-8")
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        notebook = jupytext.reads(text, "md")
        NotebookClient(notebook, timeout=500, resources={"metadata": {"path": tmp_path}}).execute()
        return [cell for cell in notebook.cells if cell.cell_type == "code"]

    return execute


def printed(cell):
    return "".join(one["text"] for one in cell.outputs if one["output_type"] == "stream")


def test_score_and_plot(execute):
    cells = execute("score")
    assert "Find the one. [41. 43. 44. 46.]" in printed(cells[1])
    pictures = [one for cell in cells for one in cell.outputs if "image/png" in one.get("data", {})]
    assert len(pictures) == 2


def test_hand_over_to_a_video_llm(execute, monkeypatch):
    with ScriptedLlm("The ", "nine.") as llm:
        monkeypatch.setenv("VIDEO_LLM_URL", llm.url)
        cells = execute("handover")
    assert printed(cells[-1]) == "The nine.\n"
    (asked,) = llm.requests
    kinds = [part["type"] for part in asked["messages"][0]["content"]]
    assert kinds == ["text", "image_url"] * 4 + ["text"]


def test_train_on_your_own_videos(execute):
    cells = execute("train", ("NUM_STEPS = 20, 10, 60", "NUM_STEPS = 2, 2, 2"))
    assert "final: 2 steps" in printed(cells[2])
    assert cells[-1].outputs[-1]["data"]["text/plain"].startswith("[")
