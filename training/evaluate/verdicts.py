"""What gates say, in words for a job's events and its end."""

from __future__ import annotations

from adapters.domain.gates import GateResult, Outcome
from adapters.domain.versions import Version
from adapters.errors import WardrobeError


class GateFailed(WardrobeError):
    """A gate said no; the version stays to be looked at and will not be served."""

    code = "gate_failed"


def in_words(version: Version) -> str:
    """One line for an event."""
    said = (
        f"{gate.name} {gate.outcome.upper() if gate.holds_up else gate.outcome}"
        for gate in version.gates
    )
    return f"Gates of {version.name}: {', '.join(said)}"


def told(version: Version) -> list[str]:
    """A line for each gate, with what was measured and what is needed."""
    return [f"{version.name}: {version.state}", *(f"  {_line(gate)}" for gate in version.gates)]


def _line(gate: GateResult) -> str:
    if gate.outcome in (Outcome.SKIPPED, Outcome.ERROR):
        return f"{gate.name} {gate.outcome}: {gate.detail}"
    return f"{gate.name} {gate.outcome}: {_numbers(gate)}"


def _numbers(gate: GateResult) -> str:
    needed = gate.direction.replace("_", " ")
    return f"measured {gate.measured:g}, {needed} {gate.bound:g} is needed ({gate.detail})"


def refusal(version: Version) -> str:
    """Which gates hold `version` up, with what was measured and what is needed."""
    return "; ".join(_refusal(version, gate) for gate in version.gates if gate.holds_up)


def _refusal(version: Version, gate: GateResult) -> str:
    if gate.outcome is Outcome.ERROR:
        return (
            f"{version.name}: gate `{gate.name}` could not be measured: {gate.detail}; "
            f"`wardrobe adapters evaluate {version.name}` tries again"
        )
    return f"{version.name}: gate `{gate.name}` said no: {_numbers(gate)}"
