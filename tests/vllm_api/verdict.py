"""Compares what became of vLLM's tests with the list of those that fail by design. Pure."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIST = Path(__file__).with_name("expected.toml")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one test: `passed`, `failed` or `skipped`, and its last words."""

    test: str
    outcome: str
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The list. An entry is a test with or without its parameters, or a whole file."""

    vllm: str
    """The version whose tests these are."""
    left_out: Mapping[str, str]
    """Files that are not run at all, with the reason."""
    fails: Mapping[str, str]
    """What fails or is skipped by design, with the reason."""

    def entry(self, test: str) -> str | None:
        """The entry that a test stands under, the most exact one."""
        names = (test, test.partition("[")[0], test.partition("::")[0])
        return next((name for name in names if name in self.fails), None)


def read_expected(text: str) -> Expected:
    """Reads the list. Raises ValueError for an entry that stands twice or without a reason."""
    said = tomllib.loads(text)
    left_out, fails = _by_entry(said["left_out"], "files"), _by_entry(said["fails"], "tests")
    return Expected(vllm=said["vllm"], left_out=left_out, fails=fails)


def _by_entry(groups: Sequence[Mapping[str, Any]], what: str) -> dict[str, str]:
    reasons: dict[str, str] = {}
    for group in groups:
        for entry in group[what]:
            if entry in reasons or not group["reason"].strip():
                raise ValueError(f"{entry} stands twice or without a reason")
            reasons[entry] = group["reason"]
    return reasons


def complaints(
    outcomes: Sequence[Outcome], expected: Expected, *, partial: bool = False
) -> list[str]:
    """What is otherwise than the list says, a line each; nothing where all is as it says.

    A partial run says nothing of the tests that it left out.
    """
    found = []
    met = set()
    for one in outcomes:
        entry = expected.entry(one.test)
        met.add(entry)
        if one.outcome == "passed" and entry:
            found.append(f"passes, though the list says that it does not: {one.test}")
        elif one.outcome != "passed" and not entry:
            found.append(f"{one.outcome}, and is not on the list: {one.test}: {one.why}")
    if not partial:
        gone = [entry for entry in expected.fails if entry not in met]
        found += [f"is on the list, and was not run: {entry}" for entry in gone]
    return found
