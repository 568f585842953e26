"""Asking every question that has no answer yet, several at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field

from groundserve.errors import UnavailableError
from groundserve.evaluation.qa.endpoint import Endpoint, QuestionFailedError
from groundserve.evaluation.qa.run_folder import Answer, RunFolder
from groundserve.evaluation.qa.spending import Budget
from groundserve.evaluation.qa.tasks import Setup, Task, open_tasks

MAX_FAILURES_IN_A_ROW = 20
"""After so many questions that failed, one after another, the endpoint counts as gone. A question
that it rejects counts while it has answered none."""


@dataclass
class Outcome:
    """What was left without an answer."""

    failures: Counter[str] = field(default_factory=Counter)
    """Questions by what went wrong: a kind of `QuestionFailedError`, or "video"."""
    first_messages: dict[str, str] = field(default_factory=dict)
    """The first failure's by kind."""
    is_budget_spent: bool = False

    def add(self, kind: str, message: str, count: int = 1) -> None:
        """Count failures of a kind."""
        self.failures[kind] += count
        self.first_messages.setdefault(kind, message)


def answer_questions(
    setup: Setup,
    *,
    endpoint: Endpoint,
    run: RunFolder,
    num_threads: int,
    budget: Budget,
    on_video: Callable[[int, int], None],
) -> Outcome:
    """Ask what has no answer yet; answers go to the folder as they come.

    When the budget is spent, what is being asked is still answered. `on_video` is called with the
    number of a video, from 1, and how many there are.
    """
    asked = _Asked(endpoint, run, budget)
    for answer in run.answers.values():
        budget.spend(answer.reply.usage)
    tasks = open_tasks(setup, run, on_video=on_video, on_failure=asked.outcome.add)
    pool = ThreadPoolExecutor(num_threads)
    try:
        with closing(tasks):
            for task in tasks:
                if len(asked.pending) >= num_threads:
                    asked.take_done()
                if budget.is_spent:
                    asked.outcome.is_budget_spent = True
                    break
                asked.pending.add(pool.submit(asked.ask, task))
        while asked.pending:
            asked.take_done()
    except BaseException:
        # Nobody waits for the rest any more: not for replies, nor for waits between tries.
        endpoint.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return asked.outcome


@dataclass
class _Asked:
    """What is being asked, and what became of it."""

    endpoint: Endpoint
    run: RunFolder
    budget: Budget
    outcome: Outcome = field(default_factory=Outcome)
    pending: set[Future[Answer]] = field(default_factory=set)
    num_failed: int = 0
    """In a row."""

    def ask(self, task: Task) -> Answer:
        """In a thread: what was paid for is kept before anything else happens."""
        answer = Answer(
            key=task.question.key,
            arm=task.arm,
            reply=self.endpoint.ask(task.content),
            frame_indices=task.frame_indices,
        )
        self.run.add(answer)
        return answer

    def take_done(self) -> None:
        """Wait until one of them is done, and count."""
        done, self.pending = wait(self.pending, return_when=FIRST_COMPLETED)
        for future in done:
            try:
                self.budget.spend(future.result().reply.usage)
                self.num_failed = 0
            except QuestionFailedError as error:
                self.outcome.add(error.kind, str(error))
                # Twenty questions about one long video may be too large; where others were
                # answered, the endpoint is there and the rest is worth asking.
                self.num_failed += error.kind != "rejected" or not self.run.answers
                if self.num_failed >= MAX_FAILURES_IN_A_ROW:
                    raise UnavailableError(
                        f"{self.num_failed} questions failed one after another, the last: {error}; "
                        "the same command goes on where this one stopped"
                    ) from error
