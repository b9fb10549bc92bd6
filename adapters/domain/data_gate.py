"""The gate over a dataset: what its stages reported of it, against what a unit allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from adapters.domain.gate_options import DataOptions
from adapters.domain.gates import GateResult, Outcome, at_most, without_number
from adapters.domain.measured import Proof

OVERLAP = "overlap"
"""Test and validation examples whose prompt stands in training too."""
PERSONAL = "personal"
"""Findings of personal data that are left, for each example."""
APPROVED = "personal, approved"
"""Instead of them, where the unit's policy allows what somebody has approved."""
LEFT_OUT = "left out"
"""Share of examples that were left out because they are too long; none is ever cut."""


def judge_data(proof: Proof, options: DataOptions) -> Iterator[GateResult]:
    """One verdict for each thing that was reported, or may have been."""
    for name, bound, detail in (
        (OVERLAP, float(options.max_overlap), "examples that measure and stand in training too"),
        (PERSONAL, options.max_personal, "findings of personal data that are left, an example"),
        (LEFT_OUT, options.max_left_out, "share of examples that were too long"),
    ):
        if proof.data is None:
            why = "the version was imported, and not made from a dataset that is known here"
            yield without_number(f"data: {name}", Outcome.SKIPPED, why)
        elif name in proof.data:
            yield at_most(f"data: {name}", proof.data[name], bound, detail)
        else:
            yield without_number(f"data: {name}", Outcome.SKIPPED, _why_not(name, proof.data))


def _why_not(name: str, data: Mapping[str, float]) -> str:
    if name == PERSONAL and APPROVED in data:
        found = f"{data[APPROVED]:.3g} findings an example"
        return f"the unit allows it, with an approval: {found} are learnt"
    return "no stage of the dataset reports it"
