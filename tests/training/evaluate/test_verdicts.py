"""What gates say, in words."""

from __future__ import annotations

from dataclasses import replace

from adapters.domain.gates import GateResult, Outcome, at_least, at_most
from adapters.domain.names import Digest, Unit, VersionId
from adapters.domain.versions import Version, VersionState
from training.evaluate.verdicts import in_words, refusal


def version(*gates: GateResult) -> Version:
    return Version(
        id=VersionId(1),
        adapter="support",
        number=3,
        unit=Unit("support"),
        state=VersionState.CANDIDATE,
        digest=Digest("a" * 64),
        base_fingerprint=Digest("b" * 64),
        rank=8,
        size_bytes=1,
        job_id=None,
        created_at=0.0,
        gates=gates,
    )


def test_the_gates_are_told_in_one_line_and_what_holds_up_is_loud() -> None:
    effect = at_least("effect", 1.0, 0.05, "", against="base")
    skipped = replace(effect, gate="task", against="live", outcome=Outcome.SKIPPED)
    told = in_words(version(effect, skipped, at_most("fidelity", 1.0, 0.1, "")))
    assert told == (
        "Gates of support:3: effect against base passed, task against live skipped, fidelity FAILED"
    )


def test_a_refusal_says_the_number_the_bound_and_the_direction() -> None:
    said = refusal(version(at_most("fidelity", 0.25, 0.125, "nats"), at_least("effect", 1, 0, "")))
    assert said == (
        "support:3: gate `fidelity` said no: measured 0.25, at most 0.125 is needed (nats)"
    )


def test_what_could_not_be_measured_is_told_apart_from_a_no() -> None:
    unmeasured = replace(at_least("task", 0.0, 0.0, "no rows"), outcome=Outcome.ERROR)
    said = refusal(version(unmeasured))
    assert "could not be measured: no rows" in said
    assert "wardrobe adapters evaluate support:3" in said
