"""What the calls made during swaps prove: pure functions of what was noted and what is right."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WHOLE = frozenset({"stop", "length"})
"""Finish reasons of an answer that was not cut off."""
MAX_TIES = 0.2
"""Share of answers that may stay unjudged: a run of mostly ties proves nothing."""
TIE = 0.02
"""Nats between the two likeliest tokens under which greedy decoding is a coin's edge: rounding in a
batch may tip it, so such a question cannot tell versions apart."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request and all it brought. Times are monotonic seconds."""

    question: int
    streamed: bool
    names: frozenset[str]
    """Every name the answer gave itself: the header's, and each chunk's `model`."""
    text: str
    finish: str | None
    error: str | None
    started: float
    ended: float


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a version alone answers to a question.

    `texts` holds its greedy answer in batches of every size: another size is other rounding, and
    may be another word. `margin` is the smallest of any token of the answer asked alone, in nats.
    """

    texts: frozenset[str]
    margin: float


@dataclass(frozen=True, kw_only=True)
class Flip:
    """A change of the route: nothing asked after `complete` may be answered by another version."""

    version: str
    begun: float
    complete: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Counts over all calls; all faults must be zero and ties few."""

    requests: int
    by_version: Mapping[str, int]
    failures: int
    truncated: int
    mixed: int
    """One answer with several names, or a text that no version gives."""
    misnamed: int
    """The text of another version than the one it names, or an unknown name."""
    stale: int
    """Asked after a flip was complete, answered by the version before."""
    alike: int
    """Answers to questions to which two versions may give the same text: not used."""
    ties: int
    """Answers whose text could not be judged."""
    unheard: int
    """Flips behind which nobody was answered before the next: less is proved, and nothing is wrong.
    The demo waits until somebody was."""

    @property
    def clean(self) -> bool:
        """Nothing went wrong, and enough could be judged."""
        wrong = self.failures + self.truncated + self.mixed + self.misnamed + self.stale
        used = self.requests - self.alike
        return wrong == 0 and used > 0 and self.ties <= used * MAX_TIES


def judge(
    calls: Sequence[Call], references: Mapping[str, Sequence[Reference]], flips: Sequence[Flip]
) -> Verdict:
    """`references` has each version's answers by question; `flips` in the order they happened."""
    kinds = Counter(_kind(call, references) for call in calls)
    return Verdict(
        requests=len(calls),
        by_version=Counter(name for call in calls for name in call.names if call.error is None),
        failures=kinds["failure"],
        truncated=kinds["truncated"],
        mixed=kinds["mixed"],
        misnamed=kinds["misnamed"],
        stale=sum(_stale(call, flips) for call in calls if call.error is None),
        alike=kinds["alike"],
        ties=kinds["tie"],
        unheard=sum(
            not any(_heard(call, flip, following) for call in calls)
            for flip, following in itertools.zip_longest(flips, flips[1:])
        ),
    )


def _kind(call: Call, references: Mapping[str, Sequence[Reference]]) -> str:
    if call.error is not None:
        return "failure"
    if call.finish not in WHOLE:
        return "truncated"
    if len(call.names) != 1:
        return "mixed"
    (name,) = call.names
    if name not in references:
        return "misnamed"
    own = references[name][call.question]
    others = frozenset[str]().union(
        *(answers[call.question].texts for other, answers in references.items() if other != name)
    )
    if own.texts & others:
        return "alike"
    if call.text in own.texts:
        return "right"
    if call.text in others:
        return "misnamed"
    return "tie" if own.margin < TIE else "mixed"


def _stale(call: Call, flips: Sequence[Flip]) -> bool:
    """Only calls that began and ended between two flips can be told for sure."""
    for flip, following in itertools.zip_longest(flips, flips[1:]):
        if _between(call, flip, following):
            return call.names != {flip.version}
    return False


def _heard(call: Call, flip: Flip, following: Flip | None) -> bool:
    return call.error is None and call.names == {flip.version} and _between(call, flip, following)


def _between(call: Call, flip: Flip, following: Flip | None) -> bool:
    return call.started > flip.complete and (following is None or call.ended < following.begun)
