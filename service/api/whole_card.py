"""The whole model card: the one that was published, and what is known of the version since.

What was published never changes, so what gates measured and who approved stands behind it. The card
of a version that was brought may say anything, approvals among it: it stands last, as it is, and
under a heading that says whose words they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from adapters.domain.approvals import Approval
from adapters.domain.gates import GateResult, Outcome
from adapters.domain.jobs import Job
from adapters.domain.versions import Version, signed_by
from service.api.training_cost import TrainingCost


@dataclass(frozen=True, kw_only=True)
class Known:
    """Everything that the registry knows of a version, as far as cards and bills tell it."""

    version: Version
    job: Job | None
    """Which made it; None where somebody brought it, or the job's row was collected."""
    approvals: Sequence[Approval]
    cost: TrainingCost
    author: str | None


def whole_card(published: str, known: Known) -> str:
    """Markdown."""
    since = "\n".join(_since(known))
    if known.version.imported:
        return f"{since}\n\n{_brought(published)}\n"
    return f"{published.rstrip()}\n\n{since}\n"


def _brought(published: str) -> str:
    """Within a fence that nothing in it can end."""
    longest = max((len(run) for run in re.findall("`+", published)), default=0)
    fence = "`" * max(3, longest + 1)
    said = "The words of whoever brought it; nobody has checked them here."
    return (
        f"## The card that came with it\n\n{said}\n\n{fence}markdown\n{published.rstrip()}\n{fence}"
    )


def _since(known: Known) -> Iterator[str]:
    version = known.version
    yield f"## Version `{version.name}`"
    yield ""
    yield from _table(
        ("", ""),
        [
            ("state", version.state.value),
            ("digest of the manifest", f"`{version.digest}`"),
            ("base model's fingerprint", f"`{version.base_fingerprint}`"),
            ("rank", str(version.rank)),
            ("published", _day(version.created_at)),
            ("made by", known.author or "-"),
            ("signed by the key", signed_by(version.signature) or "-"),
            *_cost(known.cost),
        ],
    )
    yield from ("", "## Gates", "")
    if not version.gates:
        yield "None has been asked yet."
    else:
        yield from _table(("gate", "verdict", "measured", "bound", ""), map(_gate, version.gates))
    yield from ("", "## Approvals", "")
    if not known.approvals:
        yield "Nobody has said anything."
    else:
        yield from _table(
            ("who", "verdict", "when", "why"),
            [(a.actor, a.verdict.value, _day(a.at), a.reason or "") for a in known.approvals],
        )


def _cost(cost: TrainingCost) -> Iterator[tuple[str, str]]:
    if cost.seconds is not None:
        yield "seconds of its job", f"{cost.seconds:g}"
    if cost.tokens is not None:
        yield "trained tokens", str(cost.tokens)
    if cost.money is not None:
        yield "cost", f"{cost.money:g} {cost.currency}"


def _gate(gate: GateResult) -> tuple[str, ...]:
    if gate.outcome not in (Outcome.PASSED, Outcome.FAILED):
        return gate.name, gate.outcome.value, "", "", gate.detail
    bound = f"{gate.direction.replace('_', ' ')} {gate.bound:g}"
    return gate.name, gate.outcome.value, f"{gate.measured:g}", bound, gate.detail


def _table(head: Sequence[str], rows: object) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:  # type: ignore[attr-defined]
        yield f"| {' | '.join(_cell(cell) for cell in row)} |"


def _cell(text: str) -> str:
    """Somebody's words stay in their cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
