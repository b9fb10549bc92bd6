"""The checker accepts what is legal and names what is not, one hand-made history a case."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulation.checker import UNKNOWN_ALIAS, Kind, as_one, by_itself, check, summary
from tests.simulation.history import Command, Flip, History, Outcome, Read

ALIAS = "support"


class Texts(Mapping[str, str]):
    """Version `v7` answers `v7-a v7-b`."""

    def __init__(self, count: int = 40) -> None:
        self._names = [f"v{number}" for number in range(1, count + 1)]

    def __getitem__(self, name: str) -> str:
        return f"{name}-a {name}-b"

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


TEXTS = Texts()


def read(started: float, ended: float, version: str, **changes: object) -> Read:
    whole = Read(
        started=started, ended=ended, replica="a", alias=ALIAS, named=(version,),
        text=TEXTS[version], finish="stop",
    )  # fmt: skip
    return replace(whole, **changes)  # type: ignore[arg-type]


def promote(rollout: int | None, started: float, ended: float, version: str) -> Command:
    return Command(
        started=started, ended=ended, replica="a", alias=ALIAS, action="promote",
        outcome=Outcome.COMPLETE if rollout is not None else Outcome.UNKNOWN,
        version=version, rollout=rollout,
    )  # fmt: skip


def roll_back(rollout: int | None, started: float, ended: float, version: str | None) -> Command:
    return replace(promote(rollout, started, ended, ""), action="rollback", version=version)


def flip(number: int, version: str, action: str = "promote") -> Flip:
    return Flip(id=number, alias=ALIAS, action=action, version=version)


TWO = History(
    commands=[promote(1, 0, 1, "v1"), promote(2, 10, 11, "v2")],
    flips=[flip(1, "v1"), flip(2, "v2")],
)


def with_reads(*reads: Read, base: History = TWO) -> History:
    return History(reads=list(reads), commands=list(base.commands), flips=list(base.flips))


def kinds(history: History) -> list[Kind]:
    return [violation.kind for violation in check(history, TEXTS)]


# -- legal


@pytest.mark.parametrize(
    "reads",
    [
        [read(2, 3, "v1"), read(12, 13, "v2")],
        pytest.param([read(10.1, 10.2, "v2"), read(10.3, 10.4, "v2")], id="before it is complete"),
        pytest.param([read(10.1, 10.9, "v1")], id="old until it is complete"),
        pytest.param([read(9.5, 30, "v1")], id="admitted before and still speaking"),
        pytest.param([read(9.5, 10.1, "v2")], id="begun before the flip, answered after it"),
        pytest.param([read(10.9, 40, "v1"), read(11.1, 11.2, "v2")], id="overlapping, any order"),
        pytest.param([read(0.1, 0.9, "", error=UNKNOWN_ALIAS, named=())], id="not live yet"),
        pytest.param([read(20, 21, "v1", error="status 503", named=())], id="an honest error"),
        pytest.param([read(12, 13, "v2", text="v2-a", finish="length")], id="cut by its own limit"),
    ],
)
def test_what_is_legal_is_accepted(reads: list[Read]) -> None:
    assert kinds(with_reads(*reads)) == []


def test_a_rollback_brings_an_older_version_back_with_a_newer_flip() -> None:
    back = History(
        commands=[*TWO.commands, roll_back(3, 20, 21, "v1")],
        flips=[*TWO.flips, flip(3, "v1", "rollback")],
    )
    legal = with_reads(
        read(2, 3, "v1"), read(12, 13, "v2"), read(20.5, 20.6, "v1"), read(22, 23, "v1"), base=back
    )
    assert kinds(legal) == []
    assert kinds(with_reads(read(22, 23, "v2"), base=back)) == [Kind.STALE]


def test_an_unknown_outcome_may_have_been_carried_out_or_not() -> None:
    commands = [promote(1, 0, 1, "v1"), promote(None, 10, 11, "v2")]
    carried_out = History(commands=commands, flips=list(TWO.flips))
    assert kinds(with_reads(read(12, 13, "v1"), read(14, 15, "v2"), base=carried_out)) == []
    assert kinds(with_reads(read(5, 6, "v2"), base=carried_out)) == [Kind.EARLY]
    dropped = History(commands=commands, flips=[flip(1, "v1")])
    assert kinds(with_reads(read(12, 13, "v1"), base=dropped)) == []
    assert kinds(with_reads(read(12, 13, "v2"), base=dropped)) == [Kind.UNKNOWN_VERSION]


def test_a_later_complete_flip_ends_an_earlier_one_of_unknown_outcome() -> None:
    history = History(
        commands=[promote(1, 0, 1, "v1"), promote(None, 10, 11, "v2"), promote(3, 20, 21, "v3")],
        flips=[flip(1, "v1"), flip(2, "v2"), flip(3, "v3")],
    )
    assert kinds(with_reads(read(22, 23, "v2"), base=history)) == [Kind.STALE]


def test_replicas_may_differ_until_it_is_complete_and_as_one_they_may_not() -> None:
    reads = [read(10.1, 10.2, "v2"), read(10.3, 10.4, "v1", replica="b")]
    assert kinds(with_reads(*reads)) == []
    as_register = check(with_reads(*reads), TEXTS, scope=as_one)
    assert [violation.kind for violation in as_register] == [Kind.BACKWARDS]


# -- illegal


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (read(12, 13, "v1"), Kind.STALE),
        (read(5, 6, "v2"), Kind.EARLY),
        (read(5, 6, "", error=UNKNOWN_ALIAS, named=()), Kind.STALE),
        (read(12, 13, "v9"), Kind.UNKNOWN_VERSION),
        (read(2, 3, "v1", text="v1-a v2-b"), Kind.MIXED),
        (read(2, 3, "v1", text="v1-a~0123abcd v1-b"), Kind.MIXED),
        (read(2, 3, "v1", text=""), Kind.MIXED),
        (read(2, 3, "v1", text="v2-a v2-b"), Kind.MISNAMED),
        (read(2, 3, "v1", named=("v1", "v2")), Kind.UNNAMED),
        (read(2, 3, "v1", named=()), Kind.UNNAMED),
        (read(2, 3, "v1", text="v1-a"), Kind.TRUNCATED),
        (read(2, 3, "v1", text="v1-a", finish=None), Kind.TRUNCATED),
        (read(2, 3, "v1", done=False), Kind.TRUNCATED),
    ],
)
def test_each_wrong_answer_is_named(wrong: Read, kind: Kind) -> None:
    assert kinds(with_reads(read(2, 3, "v1"), wrong, read(12, 13, "v2"))) == [kind]


def test_reads_that_follow_each_other_never_go_backwards() -> None:
    reads = [read(10.1, 10.2, "v2"), read(10.3, 10.4, "v1")]
    assert kinds(with_reads(*reads)) == [Kind.BACKWARDS]


def test_processes_behind_one_address_may_differ_until_it_is_complete_and_not_after() -> None:
    forth_and_back = (read(10.1, 10.2, "v2"), read(10.3, 10.4, "v1"))
    assert kinds(with_reads(*forth_and_back)) == [Kind.BACKWARDS]
    assert check(with_reads(*forth_and_back), TEXTS, scope=by_itself) == []
    late = with_reads(read(10.1, 10.2, "v2"), read(12, 13, "v1"))
    assert [v.kind for v in check(late, TEXTS, scope=by_itself)] == [Kind.STALE]


def test_a_version_that_came_back_can_be_told_from_its_first_time() -> None:
    """Between v2 and the rollback to v1 only the second time of v1 is legal, and it is early."""
    history = History(
        commands=[*TWO.commands, roll_back(3, 20, 21, "v1")],
        flips=[*TWO.flips, flip(3, "v1", "rollback")],
    )
    assert kinds(with_reads(read(12, 13, "v1"), base=history)) == [Kind.STALE]


def test_an_acknowledged_command_that_the_registry_forgot_is_lost() -> None:
    forgotten = History(commands=list(TWO.commands), flips=[flip(1, "v1")])
    assert kinds(forgotten) == [Kind.LOST]


def test_an_acknowledged_command_that_the_registry_remembers_otherwise_is_changed() -> None:
    other = History(commands=list(TWO.commands), flips=[flip(1, "v1"), flip(2, "v3")])
    assert kinds(other) == [Kind.CHANGED]


def test_a_flip_that_nobody_asked_for_is_named() -> None:
    extra = History(commands=list(TWO.commands), flips=[*TWO.flips, flip(3, "v7")])
    assert kinds(extra) == [Kind.UNASKED]


def test_a_command_of_unknown_outcome_counts_once() -> None:
    once = History(
        commands=[*TWO.commands, roll_back(None, 20, 21, None)],
        flips=[*TWO.flips, flip(3, "v1", "rollback")],
    )
    assert kinds(once) == []
    twice = replace(once, flips=[*once.flips, flip(4, "v2", "rollback")])
    assert set(kinds(twice)) == {Kind.REPEATED, Kind.BAD_TARGET}


def test_a_repeated_command_is_told_of_the_flip_that_the_first_one_began() -> None:
    cut_off, told = roll_back(None, 20, 21, None), roll_back(3, 30, 31, "v1")
    repeated = History(
        commands=[*TWO.commands, cut_off, told],
        flips=[*TWO.flips, flip(3, "v1", "rollback")],
    )
    assert kinds(with_reads(read(22, 23, "v1"), base=repeated)) == []
    assert kinds(with_reads(read(32, 33, "v2"), base=repeated)) == [Kind.STALE]
    by_two = replace(repeated, commands=[*TWO.commands, replace(told, started=20.0), told])
    assert kinds(with_reads(read(22, 23, "v1"), base=by_two)) == []
    alone = replace(repeated, commands=[*TWO.commands, told])
    assert kinds(with_reads(read(22, 23, "v1"), base=alone)) == [Kind.STALE]


def test_a_rollback_never_returns_to_what_was_rolled_back_from() -> None:
    toggled = History(
        commands=[*TWO.commands, roll_back(3, 20, 21, "v1"), roll_back(4, 30, 31, "v2")],
        flips=[*TWO.flips, flip(3, "v1", "rollback"), flip(4, "v2", "rollback")],
    )
    assert kinds(toggled) == [Kind.BAD_TARGET]


def test_aliases_are_checked_apart() -> None:
    other = replace(read(12, 13, "v1"), alias="sales")
    history = with_reads(read(12, 13, "v2"), other)
    history.flips.append(replace(flip(1, "v1"), alias="sales"))
    history.commands.append(replace(promote(1, 0, 1, "v1"), alias="sales"))
    assert kinds(history) == []


def test_a_history_survives_its_file(tmp_path: Path) -> None:
    history = with_reads(read(2, 3, "v1"), read(12, 13, "v1"))
    history.write(tmp_path / "history.json")
    assert History.load(tmp_path / "history.json") == history
    assert summary(check(history, TEXTS)) == {"stale": 1}


# -- a small model of what is promised, and histories that it draws


@dataclass(kw_only=True)
class Model:
    """Three replicas that observe flips one by one, and clients that read from any of them.

    Every event takes a tick of its own, so that nothing happens at the same time.
    """

    draw: random.Random
    now: float = 0.0
    history: History = field(default_factory=History)
    order: list[str] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=lambda: dict.fromkeys("abc", 0))
    pending: list[Command] = field(default_factory=list)
    reading: list[tuple[float, str, int]] = field(default_factory=list)

    def run(self, events: int) -> History:
        acts = (self.begin, self.observe, self.observe, self.complete, self.admit, self.finish)
        for _ in range(events):
            self.now += 1.0
            self.draw.choice(acts)()
        return self.history

    def begin(self) -> None:
        """A command is sent and, as no other is under way, carried out."""
        if self.pending:
            return
        version = f"v{len(self.order) + 1}"
        self.order.append(version)
        number = len(self.order)
        self.history.flips.append(flip(number, version))
        outcome = None if self.draw.random() < 0.2 else number
        self.pending = [promote(outcome, self.now - 0.5, self.now, version)]

    def observe(self) -> None:
        self.seen[self.draw.choice("abc")] = len(self.order)

    def complete(self) -> None:
        """Only when every replica has seen it; a cut connection may end it at any time."""
        for command in self.pending:
            unknown = command.outcome is Outcome.UNKNOWN
            if unknown or min(self.seen.values()) == len(self.order):
                self.history.commands.append(replace(command, ended=self.now))
                self.pending = []

    def admit(self) -> None:
        replica = self.draw.choice("abc")
        if self.seen[replica]:
            # the route is looked up half a tick after the request was sent
            self.reading.append((self.now - 0.5, replica, self.seen[replica]))

    def finish(self) -> None:
        if self.reading:
            started, replica, index = self.reading.pop(self.draw.randrange(len(self.reading)))
            version = self.order[index - 1]
            self.history.reads.append(read(started, self.now, version, replica=replica))


def drawn(seed: int) -> History:
    history = Model(draw=random.Random(seed)).run(120)
    told = {command.rollout for command in history.commands}
    # what was under way when the run ended was never told of
    under_way = [f for f in history.flips if f.id not in told]
    asked = {c.version for c in history.commands}
    history.commands += [
        promote(None, 0.0, 1e6, f.version) for f in under_way if f.version not in asked
    ]
    return history


@given(seed=st.integers(0, 2**32))
def test_every_history_that_the_model_draws_is_accepted(seed: int) -> None:
    assert check(drawn(seed), TEXTS) == []


@given(seed=st.integers(0, 2**32), data=st.data())
def test_a_history_with_one_thing_changed_is_rejected(seed: int, data: st.DataObject) -> None:
    history = drawn(seed)
    told = [c for c in history.commands if c.outcome is Outcome.COMPLETE and c.rollout]
    late = [c for c in told if c.rollout and c.rollout > 1]
    changes = ["unasked", *(["lost"] if told else []), *(["stale", "early"] if late else [])]
    changes += ["mixed"] if history.reads else []
    change = data.draw(st.sampled_from(changes))
    match change:
        case "unasked":
            history.flips.append(flip(len(history.flips) + 1, "v39"))
        case "lost":
            lost = data.draw(st.sampled_from(told))
            history.flips = [f for f in history.flips if f.id != lost.rollout]
        case "stale":
            newer = data.draw(st.sampled_from(late))
            assert newer.rollout
            old = f"v{data.draw(st.integers(1, newer.rollout - 1))}"
            history.reads.append(read(newer.ended + 0.1, newer.ended + 0.2, old, replica="d"))
        case "early":
            later = data.draw(st.sampled_from(late))
            assert later.version
            history.reads.append(read(-2.0, later.started, later.version, replica="d"))
        case "mixed":
            place = data.draw(st.integers(0, len(history.reads) - 1))
            one = history.reads[place]
            history.reads[place] = replace(one, text=f"{one.text} v40-a")
    assert Kind(change) in kinds(history)
