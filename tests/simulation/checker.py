"""Checks a history of alias flips: linearizability of a register, and what else was promised.

Every flip has a unique number in the order of the registry, so that no search is needed: each read
gets the smallest flip that it can have been answered by, in the order in which the reads began
(O(n log n)). Of a read that returned version V, the flip must

- carry V and have been asked for before the read ended (else it is `early`),
- not be followed by one that was complete before the read began (else it is `stale`),
- not come before the flip of a read in the same scope that ended before this one began (else it
  went `backwards`).

An alias that is not known is an answer, too: the one before the first flip. A command whose outcome
is unknown may have been carried out at any time after it began; what the
registry remembers decides whether it was. Flips are real where the registry remembers them, and a
promise where a client was told: one that was told and is not remembered is `lost`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

from tests.simulation.history import Command, Flip, History, Outcome, Read

UNKNOWN_ALIAS = "status 404 model_not_found"
"""A replica's way of saying that it routes by the state before the first flip."""
NOTHING = ""

Scope = Callable[[Read], str]
"""Reads of one scope never go backwards among each other."""


class Kind(StrEnum):
    """What can be wrong."""

    STALE = "stale"
    EARLY = "early"
    BACKWARDS = "backwards"
    UNKNOWN_VERSION = "unknown_version"
    UNNAMED = "unnamed"
    MIXED = "mixed"
    MISNAMED = "misnamed"
    TRUNCATED = "truncated"
    LOST = "lost"
    CHANGED = "changed"
    UNASKED = "unasked"
    REPEATED = "repeated"
    BAD_TARGET = "bad_target"


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One broken promise, and the entry that shows it."""

    kind: Kind
    alias: str
    entry: Read | Command | Flip
    why: str


def by_replica(read: Read) -> str:
    """Each replica by itself: before a rollout is complete, two may answer differently."""
    return read.replica


def as_one(read: Read) -> str:
    """All replicas together, as one register."""
    del read
    return ""


def by_itself(read: Read) -> str:
    """Several API processes behind one address: before a rollout is complete, two of those may
    answer differently, and no answer says which of them it came from.
    """
    return str(id(read))


def check(
    history: History, texts: Mapping[str, str], *, scope: Scope = by_replica
) -> list[Violation]:
    """Everything that is wrong. `texts` holds each version's whole answer by its name."""
    found: list[Violation] = []
    for alias in sorted(history.aliases()):
        part = history.of(alias)
        found += _check_commands(part)
        found += _check_rollbacks(part.flips)
        found += _check_answers(part.reads, texts)
        found += _check_order(part, scope)
    return found


def summary(violations: Sequence[Violation]) -> dict[str, int]:
    """How many of each kind."""
    return dict(Counter(str(violation.kind) for violation in violations))


# -- what one answer says


def _check_answers(reads: Sequence[Read], texts: Mapping[str, str]) -> Iterator[Violation]:
    whose = {word: name for name, text in texts.items() for word in text.split()}
    for read in reads:
        wrong = _answer_fault(read, texts, whose) if read.error is None else None
        if wrong is not None:
            yield Violation(kind=wrong[0], alias=read.alias, entry=read, why=wrong[1])


def _answer_fault(
    read: Read, texts: Mapping[str, str], whose: Mapping[str, str]
) -> tuple[Kind, str] | None:
    if read.finish is None or not read.done:
        return Kind.TRUNCATED, "it ended without a reason and without an error"
    if len(read.named) != 1:
        return Kind.UNNAMED, f"it names {len(read.named)} versions: {', '.join(read.named)}"
    said = {whose.get(word) for word in read.text.split()}
    if len(said) != 1 or None in said:
        return Kind.MIXED, f"its words come from {sorted(map(str, said))}"
    (name,) = read.named
    if said != {name}:
        return Kind.MISNAMED, f"it names {name} and was spoken by {said.pop()}"
    if read.text != texts[name] and read.finish != "length":
        return Kind.TRUNCATED, "words are missing"
    return None


# -- commands against what the registry remembers


def _check_commands(history: History) -> Iterator[Violation]:
    remembered = {flip.id: flip for flip in history.flips}
    for command in history.commands:
        if command.outcome is not Outcome.COMPLETE or not command.rollout:
            continue
        flip = remembered.get(command.rollout)
        if flip is None:
            yield _of(command, Kind.LOST, f"rollout {command.rollout} was acknowledged")
        elif (flip.action, flip.version) != (command.action, command.version or flip.version):
            yield _of(command, Kind.CHANGED, f"remembered as {flip.action} to {flip.version}")
    yield from _unasked(history)


def _unasked(history: History) -> Iterator[Violation]:
    """Flips that nobody asked for, and commands that were carried out more than once."""
    told = {command.rollout for command in history.commands if command.rollout}
    open_ = [c for c in history.commands if c.outcome is Outcome.UNKNOWN and c.rollout is None]
    budget = Counter((command.action, command.version) for command in open_)
    asked = {(command.action, command.version) for command in history.commands}
    for flip in sorted(history.flips, key=lambda flip: flip.id):
        if flip.id in told:
            continue
        key = next((k for k in _keys(flip) if budget[k] > 0), None)
        if key is not None:
            budget[key] -= 1
        elif any(k in asked for k in _keys(flip)):
            yield _of(flip, Kind.REPEATED, "carried out once more than it was asked for")
        else:
            yield _of(flip, Kind.UNASKED, "nobody asked for it")


def _keys(flip: Flip) -> tuple[tuple[str, str | None], ...]:
    """What a command that led to this flip may look like: a rollback names no version."""
    return (flip.action, flip.version), (flip.action, None)


def _check_rollbacks(flips: Sequence[Flip]) -> Iterator[Violation]:
    """Nobody ever gets back, by a rollback, to a version that was rolled back from."""
    bad: set[str] = set()
    served: list[str] = []
    for flip in sorted(flips, key=lambda flip: flip.id):
        if flip.action == "rollback":
            if flip.version in bad:
                yield _of(flip, Kind.BAD_TARGET, f"{flip.version} had been rolled back from")
            elif flip.version not in served:
                yield _of(flip, Kind.BAD_TARGET, f"{flip.version} had never been served")
            if served:
                bad.add(served[-1])
        served.append(flip.version)


def _of(entry: Command | Flip, kind: Kind, why: str) -> Violation:
    return Violation(kind=kind, alias=entry.alias, entry=entry, why=why)


# -- reads against flips


@dataclass(frozen=True, kw_only=True)
class _Register:
    """One alias's flips in order, with what is known of when they happened.

    Index 0 is the state before the first flip: no version.
    """

    begun: Sequence[float]
    """By index: no earlier than this. Never falls, for flips happen in order."""
    completed: Sequence[tuple[float, int]]
    """(time, highest index that was complete by then), by time."""
    places: Mapping[str, Sequence[int]]
    """By version: the indices of its flips."""

    @classmethod
    def of(cls, history: History) -> _Register:
        flips = sorted(history.flips, key=lambda flip: flip.id)
        told: dict[int, list[Command]] = defaultdict(list)
        for command in history.commands:
            if command.rollout:
                told[command.rollout].append(command)
        unknown = [c for c in history.commands if c.outcome is Outcome.UNKNOWN]
        places: dict[str, list[int]] = defaultdict(list, {NOTHING: [0]})
        starts, complete = [-math.inf], []
        for index, flip in enumerate(flips, 1):
            places[flip.version].append(index)
            starts.append(_earliest(told[flip.id], unknown, flip))
            complete += [
                (command.ended, index)
                for command in told[flip.id]
                if command.outcome is Outcome.COMPLETE
            ]
        complete.sort()
        highest = accumulate((index for _, index in complete), max)
        return cls(
            begun=list(accumulate(starts, max)),
            completed=[(time, index) for (time, _), index in zip(complete, highest, strict=True)],
            places=places,
        )

    def complete_before(self, time: float) -> int:
        """The newest flip that was complete before `time`."""
        count = bisect_left(self.completed, (time, -1))
        return self.completed[count - 1][1] if count else 0

    def first(self, version: str, *, at_least: int) -> int | None:
        """The smallest flip to `version` that is not before `at_least`."""
        places = self.places[version]
        position = bisect_left(places, at_least)
        return places[position] if position < len(places) else None


def _earliest(told: Sequence[Command], unknown: Sequence[Command], flip: Flip) -> float:
    """When a flip can have begun at the earliest.

    Whoever repeats a command is told of the flip that the first one began, and whoever gave the
    first one may never have learnt of it.
    """
    nameless = (c for c in unknown if (c.action, c.version) in _keys(flip))
    return min((c.started for c in (*told, *nameless)), default=-math.inf)


def _check_order(history: History, scope: Scope) -> Iterator[Violation]:
    register = _Register.of(history)
    reads = [read for read in history.reads if _tells_a_version(read)]
    ended: dict[str, _Ended] = defaultdict(_Ended)
    by_end = sorted(range(len(reads)), key=lambda number: reads[number].ended)
    finished = iter(by_end)
    following = next(finished, None)
    for number in sorted(by_end, key=lambda number: reads[number].started):
        read = reads[number]
        while following is not None and reads[following].ended < read.started:
            ended[scope(reads[following])].settle(following)
            following = next(finished, None)
        past = ended[scope(read)]
        place = _place(register, read, past.newest)
        if isinstance(place, Violation):
            yield place
        else:
            past.places[number] = place


def _tells_a_version(read: Read) -> bool:
    return read.error == UNKNOWN_ALIAS or (read.error is None and len(read.named) == 1)


class _Ended:
    """The flips that the reads of one scope were given, and the newest of those that ended."""

    def __init__(self) -> None:
        self.places: dict[int, int] = {}
        self.newest = 0

    def settle(self, number: int) -> None:
        """A read has ended before the one that is looked at next began."""
        self.newest = max(self.newest, self.places.get(number, 0))


def _place(register: _Register, read: Read, newest_seen: int) -> int | Violation:
    """The smallest flip that can have answered a read, or what is wrong with it."""

    def wrong(kind: Kind, why: str) -> Violation:
        return Violation(kind=kind, alias=read.alias, entry=read, why=why)

    version = NOTHING if read.error else read.named[0]
    if version not in register.places:
        return wrong(Kind.UNKNOWN_VERSION, f"{version} was never live")
    complete = register.complete_before(read.started)
    fresh = register.first(version, at_least=complete)
    if fresh is None:
        return wrong(Kind.STALE, f"flip {complete} was complete before it began")
    place = register.first(version, at_least=max(complete, newest_seen))
    if register.begun[fresh] >= read.ended:
        # its flip was asked for only later; an older one of the same version was over by then
        older = register.places[version][0] < complete
        kind = Kind.STALE if older else Kind.EARLY
        return wrong(kind, f"flip {fresh} had not begun, flip {complete} was complete")
    if place is None or register.begun[place] >= read.ended:
        return wrong(Kind.BACKWARDS, f"an earlier read had seen flip {newest_seen}")
    return place
