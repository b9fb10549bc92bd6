"""Macro F1 over labels, and what each example contributes to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


def macro_f1(said: Sequence[float], wanted: Sequence[float]) -> float:
    """Mean over the labels that are wanted of 2·TP / (2·TP + FP + FN); 0.0 of nothing.

    A label that is said and never wanted counts as a miss of the wanted one and has no F1.
    """
    return _mean_f1(*_counts(said, wanted))


def pseudo_values(said: Sequence[float], wanted: Sequence[float]) -> list[float]:
    """The jackknife's: n·F1 − (n−1)·F1 without the example. Their mean is F1, but for its bias.

    Tukey 1958: they may be treated as independent, so that two models are compared by them example
    by example, as by any other score.
    """
    right, as_said, as_wanted = _counts(said, wanted)
    number, whole = len(wanted), _mean_f1(right, as_said, as_wanted)
    if number < 2:
        return [whole] * number
    values = []
    for one, other in zip(said, wanted, strict=True):
        hit = Counter({one: 1}) if one == other else Counter[float]()
        without = _mean_f1(
            right - hit, as_said - Counter({one: 1}), as_wanted - Counter({other: 1})
        )
        values.append(number * whole - (number - 1) * without)
    return values


@dataclass(frozen=True, kw_only=True)
class LabelScore:
    """How well one label is told from the others."""

    examples: int
    """That want it."""
    precision: float | None
    """None where it was never said."""
    recall: float
    f1: float


def per_label(said: Sequence[float], wanted: Sequence[float]) -> dict[float, LabelScore]:
    """Label → how well it is told; those that are wanted, in their order."""
    right, as_said, as_wanted = _counts(said, wanted)
    f1s = _f1s(right, as_said, as_wanted)
    return {
        label: LabelScore(
            examples=as_wanted[label],
            precision=right[label] / as_said[label] if as_said[label] else None,
            recall=right[label] / as_wanted[label],
            f1=f1s[label],
        )
        for label in sorted(as_wanted)
    }


_Counts = Counter[float]


def _counts(said: Sequence[float], wanted: Sequence[float]) -> tuple[_Counts, _Counts, _Counts]:
    """How often each label is said rightly, said at all, and wanted."""
    right = Counter(one for one, other in zip(said, wanted, strict=True) if one == other)
    return right, Counter(said), Counter(wanted)


def _f1s(right: _Counts, said: _Counts, wanted: _Counts) -> dict[float, float]:
    return {label: 2 * right[label] / (said[label] + wanted[label]) for label in wanted}


def _mean_f1(right: _Counts, said: _Counts, wanted: _Counts) -> float:
    scores = _f1s(right, said, wanted)
    return sum(scores.values()) / len(scores) if scores else 0.0
