"""The passes of a run over several devices: each takes a share of the rows.

Losses are divided by what the whole step learns, so that the sum of the gradients is that of one
device but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Generic, TypeVar

import torch

from training.data.render import Rendered
from training.finetune.batches import parts
from training.finetune.device_plan import DevicePlan
from training.finetune.passes import Evaluation, Passes, Sums, Whole, drift_of
from training.finetune.port import AccuracyOf
from training.finetune.rank_orders import Compute, Work
from training.finetune.ranks import Ranks

R = TypeVar("R")
AT_ONCE = 256
"""Rows that each device is sent at once, where they are not of one step."""
_DICE = 1 << 56
"""Between the seeds of two devices: far above what a recipe's seed and a step make of one."""


class SpreadPasses(Generic[R]):
    """The `StepPasses` of this process and the others together."""

    def __init__(self, passes: Passes[R], ranks: Ranks) -> None:
        """`passes` are those of this process."""
        self._passes, self._ranks = passes, ranks

    @property
    def accuracy_of(self) -> AccuracyOf:
        return self._passes.accuracy_of

    def gradients(self, rows: Sequence[R], plan: DevicePlan, *, seed: int = 0) -> Sums:
        """See `Passes.gradients`. Raises RankLost, and MemoryError where another has too little."""
        self._ranks.give_weights()
        whole = self._whole(rows, plan)

        def own(share: Sequence[R]) -> list[float]:
            sums = self._passes.share(share, plan, whole, seed=seed)
            return [float(sums.loss), float(sums.hits), sums.tokens]

        order = _order(Work.GRADIENTS, plan, whole, seed=seed)
        loss, hits, tokens = _added(self._shared(order, rows, own))
        self._ranks.add_gradients()
        return Sums(
            loss=torch.tensor(loss),
            hits=torch.tensor(hits),
            learnt=whole.learnt,
            tokens=round(tokens),
        )

    def evaluate(self, rows: Sequence[R], plan: DevicePlan) -> Evaluation:
        """See `Passes.evaluate`. Raises as `gradients`."""
        self._ranks.give_weights()
        whole = self._whole(rows, plan)

        def own(share: Sequence[R]) -> list[float]:
            counts = self._passes.counts(share, plan, whole)
            return [float(counts.loss), float(counts.hits), float(counts.right)]

        order = _order(Work.COUNTS, plan, whole)
        loss, hits, right = _added(
            told for some in self._rounds(rows) for told in self._shared(order, some, own)
        )
        return Evaluation(
            loss=loss / whole.learnt, accuracy=hits / whole.learnt, answers=right / len(rows)
        )

    def log_probs(
        self,
        read: Sequence[Rendered],
        plan: DevicePlan,
        *,
        own: Callable[[Sequence[Rendered]], list[float]],
    ) -> list[float]:
        """See `PreferencePasses.log_probs`, which `own` is here. Raises as `gradients`."""
        self._ranks.give_weights()
        order, found = _order(Work.LOG_PROBS, plan), list[float]()
        for some in self._rounds(read):
            ordered = [0.0] * len(some)
            for rank, numbers in enumerate(self._shared(order, some, own)):
                ordered[rank :: self._ranks.count] = numbers
            found += ordered
        return found

    def _whole(self, rows: Sequence[R], plan: DevicePlan) -> Whole:
        learnt = self._passes.learnt(rows)
        if not self._passes.drifts:
            return Whole(learnt=learnt)

        def own(share: Sequence[R]) -> list[float]:
            return [float(self._passes.gained(share, plan))]

        order = _order(Work.GAINED, plan)
        (gained,) = _added(
            told for some in self._rounds(rows) for told in self._shared(order, some, own)
        )
        return Whole(learnt=learnt, drift=drift_of(torch.tensor(gained), len(rows)))

    def _rounds(self, rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
        return parts(rows, AT_ONCE * self._ranks.count)

    def _shared(
        self, order: Compute, rows: Sequence[Any], own: Callable[[Sequence[Any]], list[float]]
    ) -> list[list[float]]:
        """What each has computed of its share of `rows`, this process first; nothing of no rows.

        Every so many-th row is a share: those of about the same length stand side by side.
        """
        mine, *theirs = (rows[rank :: self._ranks.count] for rank in range(self._ranks.count))
        self._ranks.ask(
            [
                replace(order, rows=tuple(share), seed=order.seed + rank * _DICE)
                for rank, share in enumerate(theirs, start=1)
            ]
        )
        try:
            numbers = own(mine)
        except (RuntimeError, MemoryError):
            with suppress(MemoryError):
                self._ranks.answers()  # so that they wait for the next order
            raise
        return [numbers, *self._ranks.answers()]


def _order(work: Work, plan: DevicePlan, whole: Whole | None = None, *, seed: int = 0) -> Compute:
    """An order without its rows."""
    whole = whole or Whole(learnt=1)
    return Compute(
        work=work, rows=(), plan=plan, learnt=whole.learnt, drift=float(whole.drift), seed=seed
    )


def _added(told: Iterable[list[float]]) -> list[float]:
    """The sums of the first numbers, of the second, and so on."""
    return [sum(numbers) for numbers in zip(*filter(None, told), strict=True)]
