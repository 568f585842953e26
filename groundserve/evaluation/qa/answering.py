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

    Args:
        setup: What to ask.
        endpoint: Whom.
        run: Where answers are kept.
        num_threads: Questions that are asked at one time, >= 1.
        budget: When to stop. What is being asked then is still answered.
        on_video: Called with the number of a video, from 1, and how many there are.

    Raises:
        UnavailableError: `MAX_FAILURES_IN_A_ROW` questions failed.
        GroundserveError: As `Endpoint.ask`, but for single questions; or as `Scorer.score`, but
            for single videos.
    """
    outcome = Outcome()
    asked = _Asked(endpoint, run, outcome)
    for answer in run.answers.values():
        budget.spend(answer.reply.usage)
    pool = ThreadPoolExecutor(num_threads)
    try:
        with closing(open_tasks(setup, run, on_video=on_video, on_failure=outcome.add)) as tasks:
            for task in tasks:
                if len(asked.pending) >= num_threads:
                    asked.take(budget, is_all=False)
                if budget.is_spent:
                    outcome.is_budget_spent = True
                    break
                asked.pending.add(pool.submit(asked.ask, task))
        asked.take(budget, is_all=True)
    except BaseException:
        # Nobody waits for the rest any more: not for replies, nor for waits between tries.
        endpoint.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return outcome


class _Asked:
    """What is being asked, and what became of it."""

    def __init__(self, endpoint: Endpoint, run: RunFolder, outcome: Outcome) -> None:
        self._endpoint = endpoint
        self._run = run
        self._outcome = outcome
        self._num_failed_in_a_row = 0
        self.pending: set[Future[Answer]] = set()

    def ask(self, task: Task) -> Answer:
        """In a thread: what was paid for is kept before anything else happens."""
        answer = Answer(
            key=task.question.key,
            arm=task.arm,
            reply=self._endpoint.ask(task.content),
            frame_indices=task.frame_indices,
        )
        self._run.add(answer)
        return answer

    def take(self, budget: Budget, *, is_all: bool) -> None:
        """Wait until one of them is done, or all, and count."""
        while self.pending:
            done, _ = wait(self.pending, return_when=FIRST_COMPLETED)
            for future in done:
                self.pending.remove(future)
                try:
                    answer = future.result()
                except QuestionFailedError as error:
                    self._fail(error)
                else:
                    self._num_failed_in_a_row = 0
                    budget.spend(answer.reply.usage)
            if not is_all:
                return

    def _fail(self, error: QuestionFailedError) -> None:
        self._outcome.add(error.kind, str(error))
        # Twenty questions about one long video may be too large; where others were answered, the
        # endpoint is there and the rest is worth asking.
        if error.kind == "rejected" and self._run.answers:
            return
        self._num_failed_in_a_row += 1
        if self._num_failed_in_a_row >= MAX_FAILURES_IN_A_ROW:
            raise UnavailableError(
                f"{self._num_failed_in_a_row} questions failed one after another, the last: "
                f"{error}; the same command goes on where this one stopped"
            ) from error
