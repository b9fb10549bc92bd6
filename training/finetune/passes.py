"""Forward and backward passes over rows, as the device plan says."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import torch

from training.base.precision import Precision
from training.data.preferences import learnt_tokens
from training.data.render import Rendered
from training.finetune.batches import collate, parts
from training.finetune.device_plan import DevicePlan
from training.finetune.loss import Scorer
from training.finetune.port import AccuracyOf

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Whole:
    """What the loss of some rows is measured by: all the rows of their step or evaluation."""

    learnt: int
    """Tokens, or preferences."""
    drift: torch.Tensor = field(default_factory=lambda: torch.zeros(()))
    """How much likelier any answer has become, by which a single one is judged (KTO)."""


@dataclass(frozen=True, kw_only=True)
class Sums:
    """What one step computed. Tensors stay on the device: reading one waits for it."""

    loss: torch.Tensor
    """Mean over what is learnt, nats."""
    hits: torch.Tensor
    learnt: int
    """Tokens, or preferences."""
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Sums over measured rows; they stay on the device as well."""

    loss: torch.Tensor
    """Nats."""
    hits: torch.Tensor
    right: torch.Tensor
    """Rows that greedy decoding gets right as a whole."""

    def over(self, whole: Whole, rows: int) -> Evaluation:
        """The means of what was measured on so many rows."""
        return Evaluation(
            loss=float(self.loss) / whole.learnt,
            accuracy=int(self.hits) / whole.learnt,
            answers=int(self.right) / rows,
        )


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The validation rows, measured."""

    loss: float
    """Nats per learnt token, or of a preference."""
    accuracy: float
    answers: float


class Passes(ABC, Generic[R]):
    """Passes of rows through one base model with an adapter in it: what a run makes smaller."""

    accuracy_of: ClassVar[AccuracyOf]
    drifts: ClassVar[bool] = False
    """Whether the loss of a row depends on `Whole.drift`."""

    def __init__(self, model: Any, plan: DevicePlan) -> None:
        """`model` is PEFT's; of `plan`, device and precision hold for all passes."""
        self._model = model
        with autocast(plan):
            self._score = Scorer(model.get_base_model())

    def gradients(self, rows: Sequence[R], plan: DevicePlan, *, seed: int = 0) -> Sums:
        """Adds the gradient of the mean loss over all of `rows`.

        Without dropout, whose dice `seed` sets, it is the same whatever the micro-batch but for
        rounding.
        """
        return self.share(rows, plan, self.whole(rows, plan), seed=seed)

    def evaluate(self, rows: Sequence[R], plan: DevicePlan) -> Evaluation:
        """Measures `rows` as they are answered now."""
        whole = self.whole(rows, plan)
        return self.counts(rows, plan, whole).over(whole, len(rows))

    def whole(self, rows: Sequence[R], plan: DevicePlan) -> Whole:
        """What the loss of any of `rows` is measured by."""
        if not self.drifts:
            return Whole(learnt=self.learnt(rows))
        return Whole(learnt=self.learnt(rows), drift=drift_of(self.gained(rows, plan), len(rows)))

    @abstractmethod
    def learnt(self, rows: Sequence[R]) -> int:
        """Tokens, or preferences."""

    def gained(self, rows: Sequence[R], plan: DevicePlan) -> torch.Tensor:
        """The sum of how much likelier an answer has become that belongs to another prompt; 0 where
        no loss depends on it.
        """
        return torch.zeros(())

    @abstractmethod
    def share(self, rows: Sequence[R], plan: DevicePlan, whole: Whole, *, seed: int) -> Sums:
        """Adds the part that `rows` have in the gradient of the mean loss over the whole.

        Over all shares, losses, hits and tokens add up to those of the whole.
        """

    @abstractmethod
    def counts(self, rows: Sequence[R], plan: DevicePlan, whole: Whole) -> Counts:
        """Measures `rows` as they are answered now."""

    @contextmanager
    def asking(self, plan: DevicePlan) -> Iterator[None]:
        """The model as it answers: without dropout and gradients."""
        self._model.eval()
        try:
            with torch.no_grad(), autocast(plan):
                yield
        finally:
            self._model.train()


class AnswerPasses(Passes[Rendered]):
    """Learns the answers themselves, each token of them."""

    accuracy_of = AccuracyOf.TOKENS

    def learnt(self, rows: Sequence[Rendered]) -> int:
        """Tokens."""
        return sum(map(learnt_tokens, rows))

    def share(self, rows: Sequence[Rendered], plan: DevicePlan, whole: Whole, *, seed: int) -> Sums:
        """See `Passes.share`; the mean is over the learnt tokens, by the weights of their rows.

        What is told is without weights, as the loss of the validation rows is.
        """
        torch.manual_seed(seed)
        losses, hits, tokens = [], [], 0
        for part in parts(rows, plan.micro_batch):
            batch = collate(part).to(plan.device)
            with autocast(plan):
                scored = self._score(batch, chunk=plan.loss_chunk)
            ((scored.losses * batch.weights).sum() / whole.learnt).backward()
            losses.append(scored.losses.detach().sum() / whole.learnt)
            hits.append(scored.hits.sum())
            tokens += batch.tokens
        return Sums(
            loss=torch.stack(losses).sum(),
            hits=torch.stack(hits).sum(),
            learnt=whole.learnt,
            tokens=tokens,
        )

    def counts(self, rows: Sequence[Rendered], plan: DevicePlan, whole: Whole) -> Counts:
        """Losses, and the tokens and the whole rows that greedy decoding gets right.

        Greedy decoding gives a reference back exactly when each of its tokens is the likeliest
        after the ones before it, so one forward pass measures it.
        """
        loss, hits, right = [], [], []
        with self.asking(plan):
            for part in parts(rows, plan.micro_batch):
                batch = collate(part).to(plan.device)
                scored = self._score(batch, chunk=plan.loss_chunk)
                missed = torch.zeros(len(part), device=plan.device)
                missed.index_add_(0, batch.rows, (~scored.hits).float())
                loss.append(scored.losses.sum())
                hits.append(scored.hits.sum())
                right.append((missed == 0).sum())
        return Counts(
            loss=torch.stack(loss).sum(),
            hits=torch.stack(hits).sum(),
            right=torch.stack(right).sum(),
        )


def drift_of(gained: torch.Tensor, rows: int) -> torch.Tensor:
    """The mean gain over so many rows; a loss is none."""
    return (gained / rows).clamp(min=0.0)


def autocast(plan: DevicePlan) -> AbstractContextManager[Any]:
    """The precision of a plan's passes. Not one for several of them: it keeps what it has cast."""
    context: AbstractContextManager[Any] = torch.autocast(
        plan.device, torch.bfloat16, enabled=plan.precision is Precision.BFLOAT16
    )
    return context
