"""Forward and backward passes over rows, as the device plan says."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch

from training.base.precision import Precision
from training.data.render import Rendered
from training.finetune.batches import collate, learnt_tokens, parts
from training.finetune.device_plan import DevicePlan
from training.finetune.loss import Scorer
from training.finetune.port import AccuracyOf

R = TypeVar("R")
WARM = 2.0
"""Seconds: a dry step that took less is taken again, for the first one also makes the kernels."""


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
class Evaluation:
    """The validation rows, measured."""

    loss: float
    """Nats per learnt token, or of a preference."""
    accuracy: float
    answers: float


class Passes(ABC, Generic[R]):
    """Passes of rows through one base model with an adapter in it: what a run makes smaller."""

    accuracy_of: ClassVar[AccuracyOf]

    def __init__(self, model: Any, plan: DevicePlan) -> None:
        """`model` is PEFT's; of `plan`, device and precision hold for all passes."""
        self._model = model
        with autocast(plan):
            self._score = Scorer(model.get_base_model())

    @abstractmethod
    def gradients(self, rows: Sequence[R], plan: DevicePlan, *, seed: int = 0) -> Sums:
        """Adds the gradient of the mean loss over all of `rows`.

        Without dropout, whose dice `seed` sets, it is the same whatever the micro-batch but for
        rounding.
        """

    @abstractmethod
    def evaluate(self, rows: Sequence[R], plan: DevicePlan) -> Evaluation:
        """Measures `rows` as they are answered now."""

    def dry_step(self, rows: Sequence[Any], plan: DevicePlan) -> float:
        """Seconds a token that gradients of `rows` take here; the gradients are thrown away."""
        seconds = self._timed(rows, plan)
        if seconds < WARM:
            seconds = self._timed(rows, plan)
        return seconds / (len(rows) * max(map(len, rows)))

    @contextmanager
    def asking(self, plan: DevicePlan) -> Iterator[None]:
        """The model as it answers: without dropout and gradients."""
        self._model.eval()
        try:
            with torch.no_grad(), autocast(plan):
                yield
        finally:
            self._model.train()

    def _timed(self, rows: Sequence[R], plan: DevicePlan) -> float:
        began = time.perf_counter()
        try:
            float(self.gradients(rows, plan).loss)  # waits for the device
        finally:
            self._model.zero_grad(set_to_none=True)
        return time.perf_counter() - began


class AnswerPasses(Passes[Rendered]):
    """Learns the answers themselves, each token of them."""

    accuracy_of = AccuracyOf.TOKENS

    def gradients(self, rows: Sequence[Rendered], plan: DevicePlan, *, seed: int = 0) -> Sums:
        """See `Passes.gradients`; the mean is over the learnt tokens, by the weights of their rows.

        What is told is without weights, as the loss of the validation rows is.
        """
        torch.manual_seed(seed)
        learnt = sum(map(learnt_tokens, rows))
        losses, hits, tokens = [], [], 0
        for part in parts(rows, plan.micro_batch):
            batch = collate(part).to(plan.device)
            with autocast(plan):
                scored = self._score(batch, chunk=plan.loss_chunk)
            ((scored.losses * batch.weights).sum() / learnt).backward()
            losses.append(scored.losses.detach().sum() / learnt)
            hits.append(scored.hits.sum())
            tokens += batch.tokens
        return Sums(
            loss=torch.stack(losses).sum(),
            hits=torch.stack(hits).sum(),
            learnt=learnt,
            tokens=tokens,
        )

    def evaluate(self, rows: Sequence[Rendered], plan: DevicePlan) -> Evaluation:
        """Loss a token, and shares of tokens and of whole rows that greedy decoding gets right.

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
        learnt = sum(map(learnt_tokens, rows))
        return Evaluation(
            loss=float(torch.stack(loss).sum()) / learnt,
            accuracy=int(torch.stack(hits).sum()) / learnt,
            answers=int(torch.stack(right).sum()) / len(rows),
        )


def autocast(plan: DevicePlan) -> AbstractContextManager[Any]:
    """The precision of a plan's passes. Not one for several of them: it keeps what it has cast."""
    context: AbstractContextManager[Any] = torch.autocast(
        plan.device, torch.bfloat16, enabled=plan.precision is Precision.BFLOAT16
    )
    return context
