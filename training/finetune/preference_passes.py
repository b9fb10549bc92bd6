"""Passes over preferences: how much likelier answers have become since training began."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from training.data.render import Rendered
from training.finetune.batches import collate, parts
from training.finetune.compared_rows import Compared
from training.finetune.device_plan import DevicePlan
from training.finetune.passes import Counts, Passes, Sums, Whole, autocast
from training.finetune.port import AccuracyOf
from training.finetune.preference_loss import dpo, kto


class PreferencePasses(Passes[Compared]):
    """Learns which answers are better, never an answer as such."""

    accuracy_of = AccuracyOf.PREFERENCES

    def __init__(self, model: Any, plan: DevicePlan, *, beta: float) -> None:
        super().__init__(model, plan)
        self._beta = beta

    def learnt(self, rows: Sequence[Compared]) -> int:
        """Preferences."""
        return len(rows)

    def share(self, rows: Sequence[Compared], plan: DevicePlan, whole: Whole, *, seed: int) -> Sums:
        """See `Passes.share`; the mean is over the rows."""
        torch.manual_seed(seed)
        loss, hits = [], []
        for part in parts(rows, plan.micro_batch):
            with autocast(plan):
                losses, told = self._losses(part, whole.drift, plan)
            mean = losses.sum() / whole.learnt
            mean.backward()
            loss.append(mean.detach())
            hits.append(told.sum())
        return Sums(
            loss=torch.stack(loss).sum(),
            hits=torch.stack(hits).sum(),
            learnt=whole.learnt,
            tokens=sum(map(len, rows)),
        )

    def counts(self, rows: Sequence[Compared], plan: DevicePlan, whole: Whole) -> Counts:
        """Losses, and the preferences that the model tells as they are."""
        loss, hits = [], []
        with self.asking(plan):
            for part in parts(rows, plan.micro_batch):
                losses, told = self._losses(part, whole.drift, plan)
                loss.append(losses.sum())
                hits.append(told.sum())
        return Counts(
            loss=torch.stack(loss).sum(), hits=torch.stack(hits).sum(), right=torch.zeros(())
        )

    def log_probs(self, read: Sequence[Rendered], plan: DevicePlan) -> list[float]:
        """Of what is learnt of each sequence, by the model as it is now; nats."""
        found: list[float] = []
        with self.asking(plan):
            for part in parts(read, plan.micro_batch):
                found += self._log_probs(part, plan).tolist()
        return found

    @abstractmethod
    def _losses(
        self, rows: Sequence[Compared], drift: torch.Tensor, plan: DevicePlan
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows,): what each costs, and whether the model tells it as it is."""

    def _ratios(
        self, read: Sequence[Rendered], reference: Sequence[float], plan: DevicePlan
    ) -> torch.Tensor:
        now = self._log_probs(read, plan)
        return now - torch.tensor(reference, device=now.device)

    def _log_probs(self, read: Sequence[Rendered], plan: DevicePlan) -> torch.Tensor:
        batch = collate(read).to(plan.device)
        said = -self._score(batch, chunk=plan.loss_chunk).losses
        return torch.zeros(len(read), device=said.device).index_add(0, batch.rows, said)


class DpoPasses(PreferencePasses):
    """Of two answers, the chosen one should have gained more.

    What both have gained cancels out.
    """

    def _losses(
        self, rows: Sequence[Compared], drift: torch.Tensor, plan: DevicePlan
    ) -> tuple[torch.Tensor, torch.Tensor]:
        read = [row.answer for row in rows] + [row.other for row in rows]
        reference = [row.answer_then for row in rows] + [row.other_then for row in rows]
        chosen, rejected = self._ratios(read, reference, plan).chunk(2)
        return dpo(chosen, rejected, beta=self._beta), (chosen > rejected).detach()


class KtoPasses(PreferencePasses):
    """A liked answer should have gained more than answers do that belong to other prompts."""

    drifts = True

    def __init__(self, model: Any, plan: DevicePlan, *, beta: float, liked: float) -> None:
        """`liked` is the share of training rows that are: both kinds count the same in all."""
        super().__init__(model, plan, beta=beta)
        both = 0.0 < liked < 1.0
        self._weights = (0.5 / liked, 0.5 / (1.0 - liked)) if both else (1.0, 1.0)

    def gained(self, rows: Sequence[Compared], plan: DevicePlan) -> torch.Tensor:
        """See `Passes.gained`."""
        gained = []
        with self.asking(plan):
            for part in parts(rows, plan.micro_batch):
                read = [row.other for row in part]
                gained.append(self._ratios(read, [row.other_then for row in part], plan))
        return torch.cat(gained).sum()

    def _losses(
        self, rows: Sequence[Compared], drift: torch.Tensor, plan: DevicePlan
    ) -> tuple[torch.Tensor, torch.Tensor]:
        read = [row.answer for row in rows]
        ratios = self._ratios(read, [row.answer_then for row in rows], plan)
        liked = torch.tensor([row.liked for row in rows], device=ratios.device)
        weights = torch.where(liked, *self._weights)
        told = torch.where(liked, ratios > drift, ratios < drift)
        return weights * kto(ratios, liked, drift, beta=self._beta), told.detach()
