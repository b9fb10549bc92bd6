"""What the run's own process tells the others that compute for it: one line of JSON each.

Rows, settings and counts travel here; weights and gradients do not (`adapter_exchange.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter

from adapters.domain.recipes import Recipe
from training.data.render import Rendered
from training.finetune.compared_rows import Compared
from training.finetune.device_plan import DevicePlan


class Work(StrEnum):
    """What is computed of rows, and the numbers that answer it."""

    GAINED = "gained"
    """`Passes.gained`."""
    GRADIENTS = "gradients"
    """`Passes.share`: loss, hits, tokens. The gradients stay until they are summed."""
    COUNTS = "counts"
    """`Passes.counts`: loss, hits, right."""
    LOG_PROBS = "log_probs"
    """`PreferencePasses.log_probs`: one for each row."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """Load the base, with an adapter of the recipe's shape in it. Answered when it is done."""

    base: Path
    recipe: Recipe
    plan: DevicePlan
    liked: float
    """Share of training rows with a thumb up."""
    place: int
    """Of the device: see `places`."""
    gpu_share: float
    """As in `Devices`."""
    order: Literal["load"] = "load"


@dataclass(frozen=True, kw_only=True)
class Join:
    """Meet the other processes in the file `store`. Not answered: they meet there."""

    store: Path
    rank: int
    ranks: int
    order: Literal["join"] = "join"


@dataclass(frozen=True, kw_only=True)
class TakeWeights:
    """Take the adapter's weights from the run's own process. Not answered."""

    order: Literal["take_weights"] = "take_weights"


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Compute something of some rows. Answered with numbers, or that memory ran out."""

    work: Work
    rows: tuple[Rendered, ...] | tuple[Compared, ...]
    plan: DevicePlan
    learnt: int = 1
    """As in `Whole`, and so is `drift`."""
    drift: float = 0.0
    seed: int = 0
    order: Literal["compute"] = "compute"


@dataclass(frozen=True, kw_only=True)
class SumGradients:
    """Add the gradients to those of the run's own process. Not answered."""

    order: Literal["sum_gradients"] = "sum_gradients"


RankOrder: TypeAlias = Load | Join | TakeWeights | Compute | SumGradients
_ORDERS: TypeAdapter[RankOrder] = TypeAdapter(
    Annotated[RankOrder, Field(discriminator="order")],
    config=ConfigDict(ser_json_inf_nan="constants"),  # a run that diverges says so itself
)


def order_line(order: RankOrder) -> bytes:
    return _ORDERS.dump_json(order) + b"\n"


def order_of(line: bytes) -> RankOrder:
    """What `order_line` wrote."""
    return _ORDERS.validate_json(line)
