"""Tokens and money: what a run has taken, and when to stop."""

from __future__ import annotations

from dataclasses import dataclass

from groundserve.errors import GroundserveError, InvalidRequestError
from groundserve.evaluation.qa.replies import Usage

_MILLION = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What tokens cost, in any currency, a million of them."""

    prompt: float
    completion: float

    def __post_init__(self) -> None:
        for name, value in (("prompt", self.prompt), ("completion", self.completion)):
            if not 0 <= value < float("inf"):
                raise InvalidRequestError(f"the price of {name} tokens must be >= 0, got {value}")

    def cost(self, *, prompt_tokens: int, completion_tokens: int) -> float:
        """Return what so many tokens cost."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / _MILLION


class Budget:
    """Counts what all answers of a run took, those of earlier commands too."""

    def __init__(
        self,
        *,
        max_cost: float | None = None,
        max_tokens: int | None = None,
        prices: Prices | None = None,
    ) -> None:
        """Take the ceilings; None is none."""
        for name, value in (("max_cost", max_cost), ("max_tokens", max_tokens)):
            if value is not None and not 0 < value < float("inf"):
                raise InvalidRequestError(f"{name} must be > 0 and finite, got {value}")
        if max_cost is not None and prices is None:
            raise InvalidRequestError("max_cost needs the prices of tokens")
        self._max_cost = max_cost
        self._max_tokens = max_tokens
        self._prices = prices
        self._prompt_tokens = self._completion_tokens = 0

    def spend(self, usage: Usage | None) -> None:
        """Count one reply."""
        if usage is not None:
            self._prompt_tokens += usage.prompt_tokens
            self._completion_tokens += usage.completion_tokens
        elif self._max_cost is not None or self._max_tokens is not None:
            raise GroundserveError(
                "the endpoint does not say how many tokens a reply took (usage), so a ceiling on "
                "tokens or cost cannot be kept; its answers are kept, go on without a ceiling"
            )

    @property
    def is_spent(self) -> bool:
        """Whether a ceiling is reached."""
        prompt, completion = self._prompt_tokens, self._completion_tokens
        if self._max_tokens is not None and prompt + completion >= self._max_tokens:
            return True
        if self._max_cost is None or self._prices is None:
            return False
        cost = self._prices.cost(prompt_tokens=prompt, completion_tokens=completion)
        return cost >= self._max_cost
