"""Swaps and canaries under callers: how a route moves, and whether each answer is one version's."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from examples.demo.callers import request
from examples.demo.data import Example


@dataclass(frozen=True, kw_only=True)
class Move:
    """One change of support's route, and who answers from then on."""

    verb: str
    body: Mapping[str, Any]
    answered_by: frozenset[str]


def moves(stable: str, other: str) -> Iterator[Move]:
    """A swap there and back, and canaries that are promoted, rolled back and aborted."""
    by = {
        "stable": frozenset({stable}),
        "other": frozenset({other}),
        "both": frozenset({stable, other}),
    }
    canary = {"version": other, "steps": [{"weight": 30.0}], "advances": False, "rolls_back": False}
    for verb, body, who in (
        ("promote", {"version": other}, "other"),
        ("rollback", {}, "stable"),
        ("canary", canary, "both"),
        ("canary/weight", {"weight": 60.0}, "both"),
        ("promote", {"version": other}, "other"),
        ("rollback", {}, "stable"),
        ("canary", canary, "both"),
        ("rollback", {}, "stable"),
        ("canary", canary, "both"),
        ("abort", {}, "stable"),
    ):
        yield Move(verb=verb, body=body, answered_by=by[who])


@dataclass(frozen=True, kw_only=True)
class Heard:
    """One answer, whichever way it came."""

    names: frozenset[str]
    """That it goes by, in its header and in each chunk."""
    text: str
    ended: bool


def heard(client: Any, example: Example, *, streaming: bool) -> Heard:
    """Raises what the SDK raises."""
    raw = client.chat.completions.with_raw_response.create(
        **request("support", example), stream=streaming
    )
    answer, named = raw.parse(), raw.headers["x-adapter-version"]
    if not streaming:
        choice = answer.choices[0]
        names, text, ended = {answer.model}, choice.message.content, bool(choice.finish_reason)
    else:
        chunks = list(answer)
        names = {chunk.model for chunk in chunks}
        parts = [choice for chunk in chunks for choice in chunk.choices]
        text = "".join(part.delta.content or "" for part in parts)
        ended = any(part.finish_reason for part in parts)
    return Heard(names=frozenset({named, *names}), text=text, ended=ended)


class Witness:
    """Compares answers with what the version that they name answers alone."""

    def __init__(
        self, asked: Sequence[Example], reference: Mapping[str, Sequence[frozenset[str]]]
    ) -> None:
        """`reference`: version → its answers to each question."""
        self._asked = asked
        self._reference = reference
        self.served: list[str] = []
        self.wrong: list[tuple[Heard, int]] = []

    def hear(self, client: Any, turn: int, *, streaming: bool) -> str:
        """One answer, and the version that it names. Raises what the SDK raises."""
        which = turn % len(self._asked)
        found = heard(client, self._asked[which], streaming=streaming)
        name = min(found.names)
        texts = self._reference.get(name, ())
        if len(found.names) != 1 or not found.ended or not texts or found.text not in texts[which]:
            self.wrong.append((found, which))
        self.served.append(name)
        return name

    def call(self, client: Any, stop: threading.Event, number: int) -> None:
        """An application that never stops asking; every second one streams."""
        for turn in itertools.count(number):
            if stop.is_set():
                return
            self.hear(client, turn, streaming=bool(number % 2))

    def hear_from(self, client: Any, wanted: frozenset[str]) -> None:
        """Asks until each that answers from now on has answered; nobody else does."""
        seen = set[str]()
        while seen != wanted:
            seen.add(self.hear(client, 0, streaming=False))
            assert seen <= wanted
