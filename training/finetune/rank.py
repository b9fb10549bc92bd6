"""The part of a run on one more device: the same passes, over a share of the rows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

import torch
from peft.helpers import disable_input_dtype_casting

from training.data.render import Rendered
from training.finetune.adapter_exchange import AdapterExchange, process_group
from training.finetune.lesson import passes_for
from training.finetune.loaded_base import LoadedBase, recompute_activations
from training.finetune.passes import Passes, Whole
from training.finetune.preference_passes import PreferencePasses
from training.finetune.rank_link import OwnLink
from training.finetune.rank_orders import (
    Compute,
    Join,
    Load,
    RankOrder,
    SumGradients,
    TakeWeights,
    Work,
    order_of,
)
from training.finetune.this_device import give_back_memory, ran_out_of_memory, use_place

T = TypeVar("T")


def serve(link: OwnLink) -> None:
    """Carries out orders until the line is closed."""
    with ExitStack() as held:
        rank: Rank | None = None
        for line in link:
            order = order_of(line)
            if isinstance(order, Load):
                rank = _within_memory(partial(Rank, order, held))
                link.answer(None if rank is None else ())
            elif rank is None:
                raise ValueError("an order before anything is loaded")
            elif isinstance(order, Compute):
                link.answer(_within_memory(partial(rank.compute, order)))
            else:
                rank.exchange(order, held)


def _within_memory(work: Callable[[], T]) -> T | None:
    """What `work` gives; None where memory ran out, with what it held given back."""
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
    # not above: the exception still held the tensors there
    give_back_memory()
    return None


class Rank:
    """A loaded base with the adapter as it was last told."""

    def __init__(self, order: Load, held: ExitStack) -> None:
        """What must be left again is put on `held`."""
        use_place(order.place, gpu_share=order.gpu_share)
        torch.set_num_threads(order.plan.threads)
        self._plan = order.plan
        self._model = held.enter_context(LoadedBase(order.base).with_lora(order.recipe, order.plan))
        held.enter_context(disable_input_dtype_casting(self._model))
        self._passes: Passes[Any] = passes_for(
            self._model, order.recipe, order.plan, liked=order.liked
        )
        self._exchange = AdapterExchange(self._model)

    def exchange(self, order: RankOrder, held: ExitStack) -> None:
        """Meets the other processes, or exchanges numbers with them."""
        match order:
            case Join():
                held.enter_context(
                    process_group(
                        self._plan.device, order.store, rank=order.rank, ranks=order.ranks
                    )
                )
            case TakeWeights():
                self._exchange.weights()
            case SumGradients():
                self._exchange.gradients()

    def compute(self, order: Compute) -> list[float]:
        """The numbers that answer the order."""
        self._exchange.forget()
        if order.plan.gradient_checkpointing and not self._plan.gradient_checkpointing:
            recompute_activations(self._model)
        self._plan = order.plan
        return self._numbers(order) if order.rows else []

    def _numbers(self, order: Compute) -> list[float]:
        passes, rows, plan = self._passes, order.rows, order.plan
        whole = Whole(learnt=order.learnt, drift=torch.tensor(order.drift))
        match order.work:
            case Work.GAINED:
                return [float(passes.gained(rows, plan))]
            case Work.GRADIENTS:
                sums = passes.share(rows, plan, whole, seed=order.seed)
                return [float(sums.loss), float(sums.hits), sums.tokens]
            case Work.COUNTS:
                counts = passes.counts(rows, plan, whole)
                return [float(counts.loss), float(counts.hits), float(counts.right)]
            case Work.LOG_PROBS:
                if not isinstance(passes, PreferencePasses):
                    raise TypeError("only preferences are compared with what was likely before")
                read = [row for row in rows if isinstance(row, Rendered)]
                return passes.log_probs(read, plan)
