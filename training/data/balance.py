"""How examples are spread over labels and groups, and how to mend it.

Data has labels where its answers are few and short; groups are the values of its `metadata`.
Labels and groups are shown to the data's owner alone, in the dataset and in its card, which is a
result file of the job; events tell numbers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from adapters.domain.data_policy import Balance
from training.data.checked_rows import CheckedRows
from training.data.examples import Example
from training.data.split import Split

MAX_LABELS = 200
MAX_LABEL = 64
"""Characters of an answer that may be a label."""
MIN_PER_LABEL = 2.0
"""Examples of a label on average; with fewer, answers are texts that happen to be short."""
MAX_VALUES = 50
"""Values of one name of `metadata` that are shown."""
SKEWED = 10.0
"""How many times as many examples the largest label may have as the smallest, unmentioned."""
MOST_REPEATS = 4
"""Times an example of a rare label is shown in one epoch, or its loss counts, at most: more is
learnt by heart."""
FEW = 5
"""Examples of a label, below which more of them help most."""


_MENDED = {
    Balance.OVERSAMPLE: f"are shown up to {MOST_REPEATS} times an epoch",
    Balance.REWEIGHT: f"count up to {MOST_REPEATS} times in the loss",
}


@dataclass(frozen=True, kw_only=True)
class Label:
    """One label of the training part."""

    label: str
    examples: int
    weight: float
    """By which all labels would count the same: examples / (labels · its examples)."""
    shown: int = 1
    """How often each of its examples is shown in an epoch."""
    counts: float = 1.0
    """How many times as much the loss of its examples counts as of the largest label's."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """One value of one name of `metadata`."""

    name: str
    value: str
    examples: int
    labels: Mapping[str, int]
    """Its examples by label, where there are labels."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Labels and groups of the training part, and how the part is shown because of them."""

    labels: tuple[Label, ...] = ()
    """The largest first; none where the answers are texts."""
    groups: tuple[Group, ...] = ()
    balance: Balance = Balance.OFF
    """What the unit's policy asked for."""
    weights: Mapping[int, float] = field(default_factory=dict)
    """Example → `counts` of its label; none where all count the same."""

    @property
    def skew(self) -> float:
        """How many times as many examples the largest label has as the smallest."""
        return self.labels[0].examples / self.labels[-1].examples if self.labels else 1.0

    @property
    def notes(self) -> list[tuple[str, str]]:
        """(level, message) of what the data's owner should know; no label is named."""
        notes = []
        mended = sum(label.shown > 1 or label.counts > 1.0 for label in self.labels)
        if mended:
            said = f"Examples of {mended} rare labels {_MENDED[self.balance]} (`data.balance: "
            notes.append(("info", f"{said}{self.balance}`)"))
        elif self.balance is not Balance.OFF and not self.labels:
            said = "the answers are no labels, so none is rarer than another"
            notes.append(("warn", f"`data.balance: {self.balance}` changes nothing: {said}"))
        elif self.skew > SKEWED:
            said = f"{len(self.labels)} labels; the largest has {self.skew:.0f} times the examples"
            notes.append(("warn", f"{said} of the smallest. {_advice(self.labels)}"))
        notes += [("warn", said) for said in _uneven(self.groups)]
        return notes

    def as_facts(self) -> dict[str, Any]:
        """As the dataset keeps it."""
        return {
            "policy": str(self.balance),
            "labels": [asdict(label) for label in self.labels],
            "groups": [asdict(group) for group in self.groups],
            "skew": round(self.skew, 1),
        }


def balanced(rows: CheckedRows, parts: Split, balance: Balance) -> tuple[Split, Spread]:
    """The parts with rare labels shown more often where `balance` says so, and the spread with the
    weights that it asks for.
    """
    answers: dict[int, str] = {}
    groups: dict[int, tuple[tuple[str, str], ...]] = {}
    for at, (_, example) in zip(parts.train, rows.examples(parts.train), strict=True):
        answer = _label_of(example)
        if answer is not None:
            answers[at] = answer
        if example.groups:
            groups[at] = example.groups
    labels = _labels(answers, len(parts.train), balance)
    if not labels:
        answers = {}
    counts = {label.label: label.counts for label in labels}
    uneven = any(each != 1.0 for each in counts.values())
    spread = Spread(
        labels=labels,
        groups=_groups(groups, answers),
        balance=balance,
        weights={at: counts[answer] for at, answer in answers.items()} if uneven else {},
    )
    times = {label.label: label.shown for label in labels}
    shown = [at for at in parts.train for _ in range(times.get(answers.get(at, ""), 1))]
    return replace(parts, train=tuple(shown)), spread


def _label_of(example: Example) -> str | None:
    answer = example.answer.strip()
    return answer if len(answer) <= MAX_LABEL and answer.isprintable() else None


def _labels(answers: Mapping[int, str], examples: int, balance: Balance) -> tuple[Label, ...]:
    """None where the answers are no labels."""
    counts = Counter(answers.values())
    few = 1 < len(counts) <= MAX_LABELS
    if not few or len(answers) < examples or examples < MIN_PER_LABEL * len(counts):
        return ()
    most = max(counts.values())
    again, more = balance is Balance.OVERSAMPLE, balance is Balance.REWEIGHT
    return tuple(
        Label(
            label=label,
            examples=count,
            weight=round(examples / (len(counts) * count), 3),
            shown=max(1, min(MOST_REPEATS, most // count)) if again else 1,
            counts=round(min(MOST_REPEATS, most / count), 3) if more else 1.0,
        )
        for label, count in sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    )


def _groups(
    groups: Mapping[int, Sequence[tuple[str, str]]], answers: Mapping[int, str]
) -> tuple[Group, ...]:
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    totals: Counter[tuple[str, str]] = Counter()
    for at, listed in groups.items():
        for each in listed:
            totals[each] += 1
            if at in answers:
                counts[each][answers[at]] += 1
    shown = _most_common(totals)
    return tuple(
        Group(
            name=name,
            value=value,
            examples=totals[name, value],
            labels=dict(sorted(counts[name, value].items())),
        )
        for name, value in shown
    )


def _most_common(totals: Counter[tuple[str, str]]) -> list[tuple[str, str]]:
    """The largest values of each name, in the order of names."""
    by_name: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for each, _ in sorted(totals.items(), key=lambda item: (-item[1], item[0])):
        by_name[each[0]].append(each)
    return [each for name in sorted(by_name) for each in by_name[name][:MAX_VALUES]]


def _uneven(groups: Iterable[Group]) -> list[str]:
    """Names of `metadata` of which one value has far more examples than another."""
    sizes: dict[str, list[int]] = defaultdict(list)
    for group in groups:
        sizes[group.name].append(group.examples)
    return [
        f"Groups by `metadata` are uneven: one value of name {at} of {len(sizes)} has "
        f"{max(counts) / min(counts):.0f} times the examples of another"
        for at, (_, counts) in enumerate(sorted(sizes.items()), start=1)
        if len(counts) > 1 and max(counts) / min(counts) > SKEWED
    ]


def _advice(labels: Sequence[Label]) -> str:
    few = sum(label.examples < FEW for label in labels)
    which = f"{few} labels have" if few > 1 else "One has"
    rare = f"{which} fewer than {FEW} examples: add some; or set" if few else "Set"
    return (
        f"{rare} `data.balance`: `oversample` shows rare ones up to {MOST_REPEATS} times, "
        "`reweight` has their loss count as much"
    )
