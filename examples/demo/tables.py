"""The demo's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from examples.demo.verdict import Verdict


def answers(console: Console, rows: Sequence[tuple[str, str, str, str]]) -> None:
    """Version, question, base answer, adapter answer."""
    table = Table("version", "question", "base model", "adapter", show_lines=True)
    for version, question, base, adapter in rows:
        table.add_row(
            version, Text(question), Text(base, style="dim"), Text(adapter, style="green")
        )
    console.print(table)


def scores(console: Console, versions: Sequence[Mapping[str, Any]]) -> None:
    """What each version's evidence says of test examples, and its gates."""
    table = Table("version", "test", "exact: base", "adapter", "F1: base", "adapter", "gates")
    for version in versions:
        found = version["evidence"]["test"]
        decided = [gate for gate in version["gates"] if gate["outcome"] != "skipped"]
        passed = [gate["gate"] for gate in decided if gate["outcome"] == "passed"]
        table.add_row(
            version["id"],
            str(found["examples"]),
            *(
                f"{found[who][score]:.1%}"
                for score in ("exact_match", "token_f1")
                for who in ("base", "adapter")
            ),
            f"{len(passed)} of {len(decided)} passed: {', '.join(dict.fromkeys(passed))}",
        )
    console.print(table)


def verdict(console: Console, found: Verdict, rollouts: Sequence[Mapping[str, Any]]) -> None:
    """What the callers got, and how long each promotion took in the service."""
    table = Table("eight clients, streaming and not", "", show_header=False)
    named = ", ".join(f"{count} by {name}" for name, count in sorted(found.by_version.items()))
    table.add_row("requests", f"{found.requests} ({named})")
    for label, count in (
        ("failed", found.failures),
        ("truncated", found.truncated),
        ("mixed two versions", found.mixed),
        ("named the wrong version", found.misnamed),
        ("old version after a swap", found.stale),
    ):
        table.add_row(label, Text(str(count), style="green" if count == 0 else "bold red"))
    for label, count in (
        ("not used: both say the same", found.alike),
        ("not judged (a tie)", found.ties),
        ("swaps nobody saw", found.unheard),
    ):
        if count:
            table.add_row(label, str(count))
    for rollout in rollouts:
        took = rollout["seconds"]
        table.add_row(
            f"{rollout['action']} to {rollout['version']}",
            "-" if took is None else f"{took * 1000:.0f} ms in the service",
        )
    console.print(table)
