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
from training.finetune.passes import Evaluation, Passes, Sums, autocast
from training.finetune.port import AccuracyOf
from training.finetune.preference_loss import dpo, kto


class PreferencePasses(Passes[Compared]):
    """Learns which answers are better, never an answer as such."""

    accuracy_of = AccuracyOf.PREFERENCES

    def __init__(self, model: Any, plan: DevicePlan, *, beta: float) -> None:
        super().__init__(model, plan)
        self._beta = beta

    def gradients(self, rows: Sequence[Compared], plan: DevicePlan, *, seed: int = 0) -> Sums:
        """See `Passes.gradients`; the mean is over the rows."""
        torch.manual_seed(seed)
        drift = self._drift(rows, plan)
        loss, hits = [], []
        for part in parts(rows, plan.micro_batch):
            with autocast(plan):
                losses, told = self._losses(part, drift, plan)
            mean = losses.sum() / len(rows)
            mean.backward()
            loss.append(mean.detach())
            hits.append(told.sum())
        return Sums(
            loss=torch.stack(loss).sum(),
            hits=torch.stack(hits).sum(),
            learnt=len(rows),
            tokens=sum(map(len, rows)),
        )

    def evaluate(self, rows: Sequence[Compared], plan: DevicePlan) -> Evaluation:
        """The loss, and the share of preferences that the model tells as they are."""
        drift = self._drift(rows, plan)
        loss, hits = [], []
        with self.asking(plan):
            for part in parts(rows, plan.micro_batch):
                losses, told = self._losses(part, drift, plan)
                loss.append(losses.sum())
                hits.append(told.sum())
        return Evaluation(
            loss=float(torch.stack(loss).sum()) / len(rows),
            accuracy=int(torch.stack(hits).sum()) / len(rows),
            answers=0.0,
        )

    def log_probs(self, read: Sequence[Rendered], plan: DevicePlan) -> list[float]:
        """Of what is learnt of each sequence, by the model as it is now; nats."""
        found: list[float] = []
        with self.asking(plan):
            for part in parts(read, plan.micro_batch):
                found += self._log_probs(part, plan).tolist()
        return found

    @abstractmethod
    def _drift(self, rows: Sequence[Compared], plan: DevicePlan) -> torch.Tensor:
        """How much likelier any answer has become, by which a single one is judged."""

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
    """Of two answers, the chosen one should have gained more."""

    def _drift(self, rows: Sequence[Compared], plan: DevicePlan) -> torch.Tensor:
        return torch.zeros((), device=plan.device)  # what both answers have gained cancels out

    def _losses(
        self, rows: Sequence[Compared], drift: torch.Tensor, plan: DevicePlan
    ) -> tuple[torch.Tensor, torch.Tensor]:
        read = [row.answer for row in rows] + [row.other for row in rows]
        reference = [row.answer_then for row in rows] + [row.other_then for row in rows]
        chosen, rejected = self._ratios(read, reference, plan).chunk(2)
        return dpo(chosen, rejected, beta=self._beta), (chosen > rejected).detach()


class KtoPasses(PreferencePasses):
    """A liked answer should have gained more than answers do that belong to other prompts."""

    def __init__(self, model: Any, plan: DevicePlan, *, beta: float, liked: float) -> None:
        """`liked` is the share of training rows that are: both kinds count the same in all."""
        super().__init__(model, plan, beta=beta)
        both = 0.0 < liked < 1.0
        self._weights = (0.5 / liked, 0.5 / (1.0 - liked)) if both else (1.0, 1.0)

    def _drift(self, rows: Sequence[Compared], plan: DevicePlan) -> torch.Tensor:
        gained = []
        with self.asking(plan):
            for part in parts(rows, plan.micro_batch):
                read = [row.other for row in part]
                gained.append(self._ratios(read, [row.other_then for row in part], plan))
        return torch.cat(gained).mean().clamp(min=0.0)

    def _losses(
        self, rows: Sequence[Compared], drift: torch.Tensor, plan: DevicePlan
    ) -> tuple[torch.Tensor, torch.Tensor]:
        read = [row.answer for row in rows]
        ratios = self._ratios(read, [row.answer_then for row in rows], plan)
        liked = torch.tensor([row.liked for row in rows], device=ratios.device)
        weights = torch.where(liked, *self._weights)
        told = torch.where(liked, ratios > drift, ratios < drift)
        return weights * kto(ratios, liked, drift, beta=self._beta), told.detach()
