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
        for name, value in vars(self).items():
            if not 0 <= value < float("inf"):
                raise InvalidRequestError(f"the price of {name} tokens must be >= 0, got {value}")

    def cost(self, *, prompt_tokens: int, completion_tokens: int) -> float:
        """Return what so many tokens cost."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / _MILLION


@dataclass(kw_only=True)
class Budget:
    """Counts what all answers of a run took, those of earlier commands too."""

    max_cost: float | None = None
    """None: no ceiling; as the next."""
    max_tokens: int | None = None
    prices: Prices | None = None
    _prompt_tokens: int = 0
    _completion_tokens: int = 0

    def __post_init__(self) -> None:
        for name, value in (("max_cost", self.max_cost), ("max_tokens", self.max_tokens)):
            if value is not None and not 0 < value < float("inf"):
                raise InvalidRequestError(f"{name} must be > 0 and finite, got {value}")
        if self.max_cost is not None and self.prices is None:
            raise InvalidRequestError("max_cost needs the prices of tokens")

    def spend(self, usage: Usage | None) -> None:
        """Count one reply."""
        if usage is not None:
            self._prompt_tokens += usage.prompt_tokens
            self._completion_tokens += usage.completion_tokens
        elif self.max_cost is not None or self.max_tokens is not None:
            raise GroundserveError(
                "the endpoint does not say how many tokens a reply took (usage), so a ceiling on "
                "tokens or cost cannot be kept; its answers are kept, go on without a ceiling"
            )

    @property
    def is_spent(self) -> bool:
        """Whether a ceiling is reached."""
        prompt, completion = self._prompt_tokens, self._completion_tokens
        if self.max_tokens is not None and prompt + completion >= self.max_tokens:
            return True
        if self.max_cost is None or self.prices is None:
            return False
        cost = self.prices.cost(prompt_tokens=prompt, completion_tokens=completion)
        return cost >= self.max_cost
