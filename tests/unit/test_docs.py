"""What the documentation names exists, and what operators are shown is documented."""

import ast
import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

import groundserve
from groundserve import (
    Answer,
    AnswerOptions,
    AnswerResult,
    GenerationInfo,
    Moment,
    QueryResult,
    ScoreResult,
)
from groundserve.cli.app import load_command
from groundserve.families import family_names, get_family
from groundserve.limits import Limits
from groundserve.options import Task
from groundserve.serving.status import COUNTERS
from python_backend.triton._errors import ERROR_CLASSES
from tests.support.results import make_answer, make_answers

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "SECURITY.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
ASKING = (REPOSITORY / "docs" / "ask.md").read_text("utf-8")
OPERATIONS = (REPOSITORY / "docs" / "operate.md").read_text("utf-8")
PYTHON = (REPOSITORY / "docs" / "python.md").read_text("utf-8")
SERVING = (REPOSITORY / "docs" / "serve.md").read_text("utf-8")


def anchors(page):
    """As GitHub makes them of headings."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if link.startswith("http"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_blocks_name_commands_and_options_that_exist(page):
    """Those that are not run: see tests/docs, tests/triton/test_docs.py and others."""
    wrong = []
    for kind, code in re.findall(r"```(\w+)\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        if kind == "python":
            compile(code, page.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if kind not in ("bash", "console"):
            continue
        for line in code.replace("\\\n", " ").splitlines():
            if called := re.match(r"(?:\$ )?groundserve (.*)", line):
                words = shlex.split(called[1], comments=True)
                command = load_command(words[0])
                every = [command, *getattr(command, "commands", {}).values()]
                options = {name for some in every for one in some.params for name in one.opts}
                given = {word.partition("=")[0] for word in words if word.startswith("--")}
                wrong += [(line, option) for option in given - options]
    assert not wrong


def test_every_entry_of_the_runbook_was_rehearsed_by_a_test_that_exists():
    entries = (REPOSITORY / "docs" / "runbook.md").read_text("utf-8").split("\n## ")[1:]
    assert len(entries) >= 10
    for entry in entries:
        tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", entry)
        assert tests, entry
        for path, name in tests:
            assert f"def {name}(" in (REPOSITORY / path).read_text("utf-8"), name
        assert {"**You see**", "**Do**", "**Rehearsed**"} <= set(
            re.findall(r"\*\*[^*]+\*\*", entry)
        )


def test_every_event_is_documented():
    events = set()
    for source in (REPOSITORY / "groundserve").rglob("*.py"):
        events |= set(re.findall(r'log_event\(\s*"(\w+)"', source.read_text("utf-8")))
    assert len(events) > 15
    assert not {event for event in events if f"`{event}`" not in OPERATIONS}


def test_every_counter_of_serve_is_documented():
    assert not {name for name in COUNTERS if f"`{name}_total`" not in OPERATIONS}


def test_every_class_of_errors_is_documented():
    assert not {name for name in ERROR_CLASSES if f"`{name}`" not in SERVING}


@pytest.mark.parametrize(
    "kind", [ScoreResult, QueryResult, AnswerResult, Answer, GenerationInfo, Moment]
)
def test_every_field_of_a_result_is_documented(kind):
    assert not {field.name for field in fields(kind) if f"`{field.name}`" not in PYTHON}


def test_every_key_of_an_answer_in_text_is_documented():
    result = make_answers(make_answer()).to_json()
    (answer,) = result["answers"]
    (moment,) = answer["moments"]
    keys = {"answers", "family", "request_id", *answer, *moment, *result["generation"]}
    assert not {name for name in keys if f"`{name}`" not in ASKING}


TEXT_FAMILIES = [n for n in family_names() if get_family(n).head == "text"]


@pytest.mark.parametrize("name", TEXT_FAMILIES)
def test_every_task_and_part_is_documented(name):
    family, rows = get_family(name), ASKING.splitlines()
    of_task = {one: row for row in rows for one in get_args(Task) if row.startswith(f"| `{one}`")}
    assert {one for one, row in of_task.items() if f"`{name}`" in row} == set(family.tasks)
    (parts,) = [row for row in rows if row.startswith(f"| `{name}` |")]
    assert not {part for part in family.part_names if f"`{part}" not in parts}


def test_every_error_is_documented():
    errors = {name for name in groundserve.__all__ if name.endswith("Error")}
    assert len(errors) > 8
    assert not {name for name in errors if f"| `{name}` |" not in PYTHON}


def test_every_ceiling_is_documented():
    variables = {f"GROUNDSERVE_{name.upper()}" for name in Limits.__dataclass_fields__}
    assert not {name for name in variables if f"`{name}`" not in SERVING}


def test_every_option_of_a_question_and_all_that_is_said_of_its_answer_is_documented():
    for kind in (AnswerOptions, GenerationInfo):
        assert not {field.name for field in fields(kind) if f"`{field.name}`" not in SERVING}
