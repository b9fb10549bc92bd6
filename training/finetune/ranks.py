"""The processes that compute with the run's own one, each on one more device."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from training.finetune.adapter_exchange import AdapterExchange, process_group
from training.finetune.device_plan import OutOfMemory
from training.finetune.rank_link import RankLink, RankLost
from training.finetune.rank_orders import (
    Compute,
    Join,
    Load,
    RankOrder,
    SumGradients,
    TakeWeights,
    order_line,
)
from training.finetune.this_device import ran_out_of_memory


class Ranks:
    """The other processes of a run, once they have loaded the base and met this one."""

    def __init__(self, links: Sequence[RankLink], exchange: AdapterExchange) -> None:
        self._links, self._exchange = links, exchange

    @property
    def count(self) -> int:
        """With this process."""
        return len(self._links) + 1

    @property
    def pids(self) -> list[int]:
        return [link.pid for link in self._links]

    def give_weights(self) -> None:
        """Gives the adapter as it is here to all. Raises RankLost and OutOfMemory."""
        self._tell(TakeWeights())
        _met(self._exchange.weights)

    def add_gradients(self) -> None:
        """Adds the gradients that the others have to those here. Raises as `give_weights`."""
        self._tell(SumGradients())
        _met(self._exchange.gradients)

    def ask(self, orders: Sequence[Compute]) -> None:
        """Gives each of the others its order; `answers` must follow. Raises RankLost."""
        for link, order in zip(self._links, orders, strict=True):
            link.send(order_line(order))

    def answers(self) -> list[list[float]]:
        """What each has computed. Raises RankLost, and MemoryError where one ran out of memory.

        All have answered by then, so that each waits for its next order.
        """
        return _all_of(self._links)

    def _tell(self, order: RankOrder) -> None:
        for link in self._links:
            link.send(order_line(order))


class RanksLoading:
    """Processes that are starting: this one may load its own base meanwhile."""

    def __init__(self, links: Sequence[RankLink], held: ExitStack, scratch: Path) -> None:
        self._links, self._held, self._scratch = links, held, scratch

    def joined(self, model: Any, device: Literal["cpu", "cuda"]) -> Ranks:
        """All of them together.

        Raises RankLost, OutOfMemory, and MemoryError or torch's own where a base does not fit.
        """
        _all_of(self._links)
        exchange = AdapterExchange(model, check=self._check)
        folder = tempfile.TemporaryDirectory(prefix="ranks-", dir=self._scratch)
        store, ranks = Path(self._held.enter_context(folder), "store"), len(self._links) + 1
        for rank, link in enumerate(self._links, start=1):
            link.send(order_line(Join(store=store, rank=rank, ranks=ranks)))
        group = process_group(device, store, rank=0, ranks=ranks)
        _met(lambda: self._held.enter_context(group))
        return Ranks(self._links, exchange)

    def _check(self) -> None:
        for link in self._links:
            link.check()


@contextmanager
def ranks_loading(loads: Sequence[Load], scratch: Path) -> Iterator[RanksLoading]:
    """Starts a process for each of `loads`; they are gone behind it, however it is left.

    They meet in a folder in `scratch`, which stays there where this process is killed.
    """
    links: list[RankLink] = []
    with ExitStack() as ends:
        held = ExitStack()
        for rank, load in enumerate(loads, start=1):
            links.append(RankLink(rank))
            ends.callback(links[-1].end)
            links[-1].send(order_line(load))
        ends.enter_context(held)  # this process leaves the group while the others do
        for link in links:
            ends.callback(link.hang_up)
        yield RanksLoading(links, held, scratch)


def _all_of(links: Sequence[RankLink]) -> list[list[float]]:
    told = [link.answer() for link in links]
    if any(numbers is None for numbers in told):
        raise MemoryError("a process that trains with this one ran out of memory")
    return [numbers for numbers in told if numbers is not None]


def _met(exchange: Callable[[], object]) -> None:
    """Raises RankLost where torch says that another process is gone.

    Raises OutOfMemory where memory ran out here, which ends the run, instead of what a smaller plan
    follows: the others are still in this exchange and would take the next one for it.
    """
    try:
        exchange()
    except RankLost:
        raise
    except (RuntimeError, MemoryError) as error:
        if ran_out_of_memory(error):
            raise OutOfMemory(
                "there was too little memory to exchange the adapter between the devices; give "
                "the engine a smaller share, or train on fewer devices"
            ) from error
        raise RankLost("a process that trains with this one left an exchange") from error
