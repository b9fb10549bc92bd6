"""How far one next-token distribution is from another, where only the likeliest tokens are told."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log

LEAST = 1e-9
"""Probability of what is left, so that no logarithm is infinite."""


def forward_kl(base: Mapping[int, float], other: Mapping[int, float]) -> float:
    """Nats from `base` to `other`: token → log-probability of the likeliest tokens of each.

    Taken over the tokens that both name and the rest as one: by the log-sum inequality that is
    never more than the divergence of the whole distributions (Cover & Thomas 2006, theorem 2.7.1).
    """
    shared = base.keys() & other.keys()
    named = sum(exp(base[token]) * (base[token] - other[token]) for token in shared)
    left = max(LEAST, 1.0 - sum(exp(base[token]) for token in shared))
    left_of_other = max(LEAST, 1.0 - sum(exp(other[token]) for token in shared))
    return max(0.0, named + left * log(left / left_of_other))
