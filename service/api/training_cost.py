"""What a version has cost to make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adapters.domain.jobs import Job

_MILLION = 1_000_000


@dataclass(frozen=True, kw_only=True)
class TrainingCost:
    """Seconds of its job, tokens it was trained on, and money where a price is set."""

    seconds: float | None
    tokens: int | None
    money: float | None
    currency: str

    def as_json(self) -> dict[str, Any]:
        money = None if self.money is None else {"value": self.money, "currency": self.currency}
        return {"seconds": self.seconds, "trained_tokens": self.tokens, "money": money}


def training_cost(job: Job | None, *, price: float, currency: str) -> TrainingCost:
    """`price` is of a million trained tokens; 0: nobody has said one. Evaluations count in the
    usage of the service, as other answers do.
    """
    tokens = None if job is None else job.trained_tokens
    times = (None, None) if job is None else (job.started_at, job.finished_at)
    seconds = None if None in times else round(times[1] - times[0], 1)  # type: ignore[operator]
    money = round(tokens * price / _MILLION, 6) if tokens is not None and price else None
    return TrainingCost(seconds=seconds, tokens=tokens, money=money, currency=currency)
