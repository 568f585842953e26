"""The folder of a run: bound to what decides the answers, whole whatever was killed."""

import pytest

from groundserve.errors import GroundserveError, InvalidRequestError
from groundserve.evaluation.qa.replies import Reply, Usage
from groundserve.evaluation.qa.run_folder import Answer, RunFolder, read_run
from tests.unit.evaluation.qa.questions import question

PARTS = {"layout": "cgbench", "model": "m", "arms": ["uniform"], "top_k": 4, "request": {"x": (1,)}}
QUESTIONS = [question("0", spans=((1.0, 2.0),)), question("1", group="g", num_choices=None)]


def answer(key="0", arm="uniform", text="B"):
    usage = Usage(prompt_tokens=5, completion_tokens=1)
    reply = Reply(
        text=text, is_refused=False, finish_reason="stop", usage=usage, retries=("timeout",)
    )
    return Answer(key=key, arm=arm, reply=reply, frame_indices=(0, 7))


def test_a_run_goes_on_where_it_ended(tmp_path):
    with RunFolder(tmp_path / "new" / "run", PARTS, QUESTIONS) as run:
        assert run.answers == {}
        run.add(answer(text="naïve \u2028 B\n"))
        run.add_selections({"0": (1, 2)}, engine={"id": "e"})
    with RunFolder(tmp_path / "new" / "run", PARTS, QUESTIONS) as run:
        assert run.answers == {("0", "uniform"): answer(text="naïve \u2028 B\n")}
        assert run.selections == {"0": (1, 2)}
        run.add(answer(arm="selected"))
    kept = read_run(tmp_path / "new" / "run")
    assert [(it.key, it.arm) for it in kept.answers] == [("0", "uniform"), ("0", "selected")]
    assert [(it.key, it.answer, it.group, it.num_choices) for it in kept.questions] == [
        ("0", "B", None, 3),
        ("1", "B", "g", None),
    ]
    assert kept.questions[0].spans == ((1.0, 2.0),)


def test_a_run_that_has_kept_nothing_binds_nobody(tmp_path):
    RunFolder(tmp_path, {**PARTS, "model": "a slip"}, QUESTIONS[:1]).close()
    RunFolder(tmp_path, PARTS, QUESTIONS).close()
    run = read_run(tmp_path)
    assert (run.parts["model"], len(run.questions)) == ("m", 2)


@pytest.mark.parametrize("name", ["answers.jsonl", "selections.jsonl"])
@pytest.mark.parametrize("torn", [b'{"key": "1", "arm', b'{"key": "1"}'])
def test_a_torn_last_line_is_healed(tmp_path, name, torn):
    with RunFolder(tmp_path, PARTS, QUESTIONS) as run:
        run.add(answer())
        run.add_selections({"0": (1, 2)}, engine=None)
    path = tmp_path / name
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert len(read_run(tmp_path).answers) == 1  # while another process writes
    with RunFolder(tmp_path, PARTS, QUESTIONS) as run:
        assert path.read_bytes() == whole
        run.add(answer("1"))
    assert [it.key for it in read_run(tmp_path).answers] == ["0", "1"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"7", "line 2: must be an object, got 7"),
        (b'{"key": "1"}', "line 2: not an answer of a run"),
        (None, 'line 2: question "0" is answered twice from uniform frames'),
    ],
)
def test_a_damaged_line_is_named(tmp_path, line, message):
    with RunFolder(tmp_path, PARTS, QUESTIONS) as run:
        run.add(answer())
    path = tmp_path / "answers.jsonl"
    first = path.read_bytes()
    path.write_bytes(first + (first if line is None else line + b"\n"))
    with pytest.raises(InvalidRequestError, match=message):
        RunFolder(tmp_path, PARTS, QUESTIONS)


def test_another_engine_selects_nothing_for_this_run(tmp_path):
    with RunFolder(tmp_path, PARTS, QUESTIONS) as run:
        run.add_selections({"0": (1, 2)}, engine={"id": "e", "sizes": (1, 2)})
    with RunFolder(tmp_path, PARTS, QUESTIONS) as run:
        with pytest.raises(GroundserveError, match="another engine selected"):
            run.add_selections({"1": (3,)}, engine={"id": "f"})
        run.add_selections({"1": (3,)}, engine={"id": "e", "sizes": (1, 2)})
        assert run.selections == {"0": (1, 2), "1": (3,)}


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "notes").touch()
    with pytest.raises(InvalidRequestError, match="has no run of groundserve and is not empty"):
        RunFolder(tmp_path, PARTS, QUESTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]
    with pytest.raises(InvalidRequestError, match="has no run of groundserve"):
        read_run(tmp_path)
