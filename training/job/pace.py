"""How fast training is here: by what earlier jobs have told, or else by a guess that says so."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from adapters.admission.base_model import BaseModel
from adapters.domain.names import Digest
from adapters.domain.principals import SYSTEM
from adapters.registry.ports import Versions
from adapters.settings import Settings
from training.base.precision import products_per_second

_RECENT = 20
"""Versions looked at."""
_PRODUCTS = 4
"""Multiplications and additions for each token and weight of the base's layers: two forward, and
two back through them, for they get no gradient themselves."""
_REACHED = 0.5
"""What a step reaches of the speed of one product after another: head, adapters, attention and the
optimizer are the rest."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast training is here."""

    tokens_per_second: float
    guessed: bool
    """By the machine's matrix products: none of the newest versions is of this base."""


def pace(
    versions: Versions, base: BaseModel, products_per_second: Callable[[], float | None]
) -> Pace | None:
    """By the newest version of this base that says so, whoever's it is, else by the speed of matrix
    products, which is asked for then; None where nothing is known: before the first job on a GPU.
    """
    told = _told(versions, base.fingerprint)
    if told is not None:
        return Pace(tokens_per_second=told, guessed=False)
    speed = products_per_second()
    weights = sum(rows * columns for rows, columns in base.shapes.values())
    if speed is None or not weights:
        return None
    return Pace(tokens_per_second=speed * _REACHED / (_PRODUCTS * weights), guessed=True)


def nobody_knows() -> None:
    """The speed of matrix products where none is measured."""


def speed_of_a_job(settings: Settings) -> float | None:
    """Of the matrix products of a job with these settings on this machine; None on a GPU."""
    return products_per_second(settings.train_precision, threads=threads_of_a_job(settings))


def threads_of_a_job(settings: Settings) -> int:
    """What the settings say, else one job's part of the cores; 0: all that it may use."""
    if settings.train_threads or settings.train_jobs == 1:
        return settings.train_threads
    return max(1, len(os.sched_getaffinity(0)) // settings.train_jobs)


def _told(versions: Versions, base: Digest) -> float | None:
    for version in versions.list(SYSTEM, adapter=None, after=None, limit=_RECENT).items:
        training = (version.evidence or {}).get("training", {})
        tokens, seconds = training.get("trained_tokens"), training.get("seconds")
        if version.base_fingerprint == base and tokens and seconds:
            return float(tokens) / float(seconds)
    return None
