import os
import signal

import pytest

from groundserve.batch.program import Program, ProgramDiedError, SilentProgramError

ECHO = "tests.unit.batch.echo_program"


@pytest.fixture
def program():
    started = Program(ECHO, "an argument", environment={"A_VARIABLE": "a value"})
    yield started
    started.kill()


def test_it_hears_and_answers(program):
    assert program.hear(60) == (["an argument"], "a value", program.pid)
    program.tell({"any": ["object"]})
    assert program.hear(60) == {"any": ["object"]}


def test_one_that_says_nothing_is_silent(program):
    program.hear(60)
    with pytest.raises(SilentProgramError):
        program.hear(0.1)
    program.tell("go on")
    assert program.hear(60) == "go on"


def test_one_that_was_killed_has_died(program):
    program.hear(60)
    os.kill(program.pid, signal.SIGKILL)
    with pytest.raises(ProgramDiedError):
        program.hear(60)
    with pytest.raises(ProgramDiedError):
        program.tell("are you there?")


def test_it_ends_when_nobody_is_left_to_talk_to(program):
    program.hear(60)
    program.end(60)
    assert program._process.returncode == 0


def test_one_that_does_not_end_is_killed(program):
    program.hear(60)
    program.tell("stay")
    program.hear(60)
    program.end(0.1)
    assert program._process.returncode == -signal.SIGKILL
