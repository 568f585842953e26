"""The loop over tokens: one prefix for all questions, why answers end, and what stops them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from groundserve.errors import (
    DeadlineExceededError,
    EngineMismatchError,
    GroundserveError,
)
from groundserve.families.plans import VISUAL_TOKEN_ID, Prompt
from groundserve.options import AnswerOptions
from groundserve.runtime.deadline import Deadline
from python_backend.generate import Generator, finish
from python_backend.generate.base import check_token_ids
from python_backend.meter import Counts

VOCAB_SIZE = 50
FEATURES = np.zeros((3, 1, 4), np.float32)
PREFIX = [1, 7, VISUAL_TOKEN_ID]
BLOCK = [90, 91, 92]  # rows of the video: no token
NO_END = frozenset[int]()


@dataclass
class FakePast:
    """The positions themselves; an embedding is one number."""

    max_positions: int
    rows: list[float] = field(default_factory=list)

    @property
    def num_positions(self) -> int:
        return len(self.rows)

    def crop(self, num_positions: int) -> None:
        assert num_positions <= len(self.rows)
        del self.rows[num_positions:]


class FakeFront:
    """A token's embedding is its id, the video's are `BLOCK`."""

    def embed_video(self, features, inputs):
        assert features.shape == FEATURES.shape
        return np.array(BLOCK, np.float32)[:, None]

    def embed_text(self, token_ids):
        check_token_ids(token_ids, VOCAB_SIZE)
        return token_ids.astype(np.float32)[:, None]


class FakeDecoder:
    """Prefers a token that all positions before decide; notes how long each pass was."""

    def __init__(self, logits=None, *, switch: int = 10**6) -> None:
        self.passes: list[int] = []
        self.regimes: list[int] = []
        self.pasts: list[FakePast] = []
        self._logits = logits
        self._switch = switch

    def regime(self, num_positions):
        return int(num_positions > self._switch)

    def begin(self, max_positions):
        self.pasts.append(FakePast(max_positions))
        return self.pasts[-1]

    def extend(self, embeddings, past, *, regime, position_ids=None):
        self.passes.append(len(embeddings))
        self.regimes.append(regime)
        past.rows += embeddings[:, 0].tolist()
        assert len(past.rows) <= past.max_positions
        if self._logits is not None:
            return self._logits(past.rows)
        return np.eye(VOCAB_SIZE, dtype=np.float32)[next_token(past.rows)]


def next_token(rows) -> int:
    return 3 + int(sum(number * row for number, row in enumerate(rows, start=1))) % 40


class AfterChecks(Deadline):
    """Runs out after so many checks."""

    @classmethod
    def number(cls, checks: int) -> AfterChecks:
        deadline = cls.after(1.0)
        object.__setattr__(deadline, "left", checks)
        return deadline

    def check(self) -> None:
        object.__setattr__(self, "left", self.left - 1)
        if self.left < 0:
            raise DeadlineExceededError("no time is left")


def prompt(*suffix: int) -> Prompt:
    return Prompt(token_ids=np.array([*PREFIX, *suffix]), num_prefix=len(PREFIX))


def ask(*prompts, decoder=None, end_ids=NO_END, deadline=None, meter=None, **options):
    return finish(
        Generator(front=FakeFront(), decoder=decoder or FakeDecoder()).answer(
            FEATURES,
            (),
            prompts,
            AnswerOptions(**options),
            end_ids=end_ids,
            deadline=deadline or Deadline.after(60.0),
            meter=meter or Counts(),
        )
    )


def test_prefix_is_let_go_of_where_others_wait_and_the_answers_stay_the_same():
    prompts, meter = (prompt(4, 5), prompt(6), prompt(7)), Counts()
    alone = ask(*prompts, max_new_tokens=4)
    waits = iter([True, False])
    turns = Generator(front=FakeFront(), decoder=FakeDecoder()).answer(
        FEATURES,
        (),
        prompts,
        AnswerOptions(max_new_tokens=4),
        end_ids=NO_END,
        deadline=Deadline.after(60.0),
        meter=meter,
        others_wait=lambda: next(waits),
    )
    next(turns)  # others have their turn before the second question
    shared = finish(turns)
    assert [one.token_ids.tolist() for one in shared.answers] == [
        one.token_ids.tolist() for one in alone.answers
    ]
    assert shared.prefix_tokens == alone.prefix_tokens
    assert meter["prefix_tokens"] == 2 * alone.prefix_tokens


def expected(*suffix: int, num_tokens: int) -> list[int]:
    rows = [*PREFIX[:-1], *BLOCK, *suffix]
    for _ in range(num_tokens):
        rows.append(next_token(rows))
    return rows[-num_tokens:]


def test_each_question_follows_the_prefix_alone():
    found = ask(prompt(4, 5), prompt(6), prompt(4, 5), max_new_tokens=4)
    wanted = [expected(*suffix, num_tokens=4) for suffix in ((4, 5), (6,), (4, 5))]
    assert [answer.token_ids.tolist() for answer in found.answers] == wanted
    assert wanted[0] != wanted[1]
    assert {answer.token_ids.dtype.name for answer in found.answers} == {"int32"}


def test_questions_of_two_regimes_have_a_prefix_each_one_after_another():
    decoder, meter = FakeDecoder(switch=7), Counts()
    asked = ((4, 5, 6), (4,), (6, 5, 4, 3), (5,))
    found = ask(*(prompt(*one) for one in asked), decoder=decoder, meter=meter, max_new_tokens=2)
    wanted = [expected(*suffix, num_tokens=2) for suffix in asked]
    assert [answer.token_ids.tolist() for answer in found.answers] == wanted
    # First the short ones, then the long ones, in the order asked.
    assert decoder.passes == [5, 1, 1, 1, 1, 5, 3, 1, 4, 1]
    assert decoder.regimes == [0] * 5 + [1] * 5
    assert [past.max_positions for past in decoder.pasts] == [5 + 1 + 1, 5 + 4 + 1]
    assert (found.prefix_tokens, meter["prefix_tokens"], found.prompt_tokens) == (10, 10, 9)


def test_an_answer_ends_with_its_end_token_which_counts():
    tokens = expected(4, num_tokens=3)
    (answer,) = ask(prompt(4), end_ids=frozenset(tokens[2:]), max_new_tokens=3).answers
    assert (answer.token_ids.tolist(), answer.stop_reason) == (tokens, "eos")
    (answer,) = ask(prompt(4), max_new_tokens=3).answers
    assert (answer.token_ids.tolist(), answer.stop_reason) == (tokens, "length")
    (answer,) = ask(prompt(4), end_ids=frozenset(tokens[:1]), max_new_tokens=3).answers
    assert (answer.token_ids.tolist(), answer.stop_reason) == (tokens[:1], "eos")


def test_endless_generation_ends_at_its_limit():
    (answer,) = ask(prompt(4), max_new_tokens=700).answers
    assert (len(answer.token_ids), answer.stop_reason) == (700, "length")


# Checks: the request's, the prefix's, the question's, one a token.
@pytest.mark.parametrize("checks", [0, 2])
def test_time_that_runs_out_before_the_first_token_fails_the_request(checks):
    with pytest.raises(DeadlineExceededError):
        ask(prompt(4), prompt(5), deadline=AfterChecks.number(checks))


def test_time_that_runs_out_later_ends_the_answers_where_they_are():
    meter = Counts()
    found = ask(prompt(4), prompt(5), deadline=AfterChecks.number(5), meter=meter)
    (first, second) = found.answers
    assert (first.token_ids.tolist(), first.stop_reason) == (expected(4, num_tokens=3), "deadline")
    assert (second.token_ids.tolist(), second.stop_reason) == ([], "deadline")
    assert (found.generated_tokens, meter["generated_tokens"]) == (3, 3)


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_are_no_answer(bad, temperature):
    def logits(rows):
        row = np.zeros(VOCAB_SIZE, np.float32)
        row[3] = bad if len(rows) > 8 else 0
        return row

    meter = Counts()
    with pytest.raises(GroundserveError, match=r"^the decoder returned logits that are not finite"):
        ask(prompt(4), decoder=FakeDecoder(logits), temperature=temperature, meter=meter)
    assert meter["generated_tokens"] == 3


@pytest.mark.parametrize("token", [-1, VOCAB_SIZE])
def test_a_token_that_the_model_does_not_have_is_another_models(token):
    with pytest.raises(
        EngineMismatchError, match=rf"gave the id {token}, and the model has {VOCAB_SIZE} embed"
    ):
        ask(prompt(4, token))


def test_draws_depend_on_the_seed_and_not_on_what_else_is_asked():
    def flat(rows):
        return np.sin(np.arange(VOCAB_SIZE, dtype=np.float32) * (1 + sum(rows)))

    def drawn(*prompts, seed=3):
        found = ask(
            *prompts, decoder=FakeDecoder(flat), temperature=1.5, seed=seed, max_new_tokens=12
        )
        assert found.seed == seed
        return [answer.token_ids.tolist() for answer in found.answers]

    together = drawn(prompt(4), prompt(5))
    assert together == drawn(prompt(4)) + drawn(prompt(5))
    assert together != drawn(prompt(4), prompt(5), seed=4)
    assert ask(prompt(4), max_new_tokens=1).seed is None
