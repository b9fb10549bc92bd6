"""Gates: the checks a candidate must pass before it may go live.

A unit's policy, and what a gate says. How it comes to say so: `adapters/domain/proof.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from adapters.domain.canaries import CanaryPlan
from adapters.domain.canary_policy import CanaryPolicy
from adapters.domain.datasets import MIN_TEST
from adapters.domain.gate_options import (
    ConductOptions,
    DataOptions,
    FairnessOptions,
    ForgettingOptions,
    LeakageOptions,
)


class GatePolicy(BaseModel):
    """A unit's thresholds, and what happens when all gates are passed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    promote: Literal["automatic", "canary", "manual"] = Field(
        default="automatic",
        description="Put a version live when it has passed its gates; `canary`: in steps.",
    )
    canary: CanaryPolicy | None = Field(
        default=None, description="Its schedule where `promote` is `canary`; none: the usual one."
    )
    approval: Literal["none", "second_person"] = Field(
        default="none",
        description="Who must have said yes before a version answers, beside its gates.",
    )
    scorer: Literal[
        "token_f1", "exact_match", "normalised_match", "json_fields", "label_f1", "sql", "own"
    ] = Field(default="token_f1", description="What the `task` gates compare.")
    sql_database: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9_-]{0,60}\.sqlite$",
        description="SQLite file beside the unit's, which `sql` runs queries against.",
    )
    own_scorer: str | None = Field(
        default=None,
        pattern=r"^[a-z][a-z0-9_.-]{0,60}$",
        description="Entry point of `wardrobe.scorers` that `own` calls.",
    )
    min_gain: float = Field(
        default=0.02, ge=0.0, le=1.0, description="Score by which a version must beat the base."
    )
    min_skill: float | None = Field(
        default=0.01,
        ge=0.0,
        le=1.0,
        description="Score by which it must surely beat one and the same answer; none: off.",
    )
    margin: float = Field(
        default=0.1,
        ge=0.0,
        le=1.0,
        description="Score by which a version may at most be worse than the live one.",
    )
    confidence: float = Field(
        default=0.95,
        ge=0.5,
        le=0.999,
        description="How sure a comparison must be, on one side; repeated tries share the doubt.",
    )
    min_effect: float = Field(
        default=0.05,
        ge=0.0,
        le=1.0,
        description="Share of examples on which a version must differ from the base.",
    )
    max_drift: float | None = Field(
        default=None,
        gt=0.0,
        description="Nats a token between service and trainer; none: what the dtype explains.",
    )
    max_overfitting: float = Field(
        default=0.35,
        ge=0.0,
        description="Nats a token that test part, checkpoint or unseen rows may be worse.",
    )
    evaluation_examples: int = Field(
        default=128, ge=MIN_TEST, le=2000, description="Test examples asked of the service."
    )
    answer_slack: int = Field(
        default=8, ge=0, le=512, description="Tokens an answer may be longer than its reference."
    )
    min_ends: float | None = Field(
        default=0.9, ge=0.0, le=1.0, description="Share of answers that must end; none: off."
    )
    ends_tokens: int = Field(
        default=128,
        ge=16,
        le=4096,
        description="Tokens within which an answer must end; twice its reference's, if more.",
    )
    ends_examples: int = Field(
        default=8, ge=1, le=128, description="Answers cut short that are asked again for `ends`."
    )
    data: DataOptions | None = Field(
        default=DataOptions(), description="What the dataset may hold; none: off."
    )
    forgetting: ForgettingOptions | None = Field(
        default=None, description="How far it may move from the base; none: off."
    )
    leakage: LeakageOptions | None = Field(
        default=None, description="What it may give away of its data; none: off."
    )
    fairness: FairnessOptions | None = Field(
        default=None, description="Whether who is asked about decides; none: off."
    )
    conduct: ConductOptions | None = Field(
        default=None, description="Safety and obedience; none: off."
    )

    @model_validator(mode="after")
    def _scorer_has_what_it_needs(self) -> Self:
        for scorer, needed in (("sql", "sql_database"), ("own", "own_scorer")):
            if (self.scorer == scorer) != (getattr(self, needed) is not None):
                raise ValueError(f"scorer `{scorer}` and `{needed}` go together")
        return self

    @property
    def canary_plan(self) -> CanaryPlan | None:
        """The schedule by which a version goes live; None is at once."""
        return (self.canary or CanaryPolicy()).plan() if self.promote == "canary" else None


class Outcome(StrEnum):
    """What a gate says."""

    PASSED = "passed"
    FAILED = "failed"
    """The version is not good enough."""
    SKIPPED = "skipped"
    """There was nothing to compare with; it holds nothing up."""
    ERROR = "error"
    """It could not be measured; the version is not proven and may be evaluated again."""


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """One gate's verdict, with the number behind it."""

    gate: str
    outcome: Outcome
    measured: float
    bound: float
    direction: Literal["at_least", "at_most"]
    detail: str
    against: str | None = None
    """What it was compared with: `base`, the live version, or `one answer` for all questions."""

    @property
    def passed(self) -> bool:
        return self.outcome is Outcome.PASSED

    @property
    def holds_up(self) -> bool:
        """Whether the version may not go live because of it."""
        return self.outcome in (Outcome.FAILED, Outcome.ERROR)

    @property
    def name(self) -> str:
        """`task`, or `task against support:2`."""
        return f"{self.gate} against {self.against}" if self.against else self.gate


def all_passed(results: Sequence[GateResult]) -> bool:
    """No gate holds it up, and one at least said yes: an empty sequence proves nothing."""
    return any(result.passed for result in results) and not any(
        result.holds_up for result in results
    )


def at_least(
    gate: str,
    measured: float,
    bound: float,
    detail: str,
    *,
    against: str | None = None,
) -> GateResult:
    """A gate that asks for a minimum."""
    return GateResult(
        gate=gate,
        outcome=Outcome.PASSED if measured >= bound else Outcome.FAILED,
        measured=measured,
        bound=bound,
        direction="at_least",
        detail=detail,
        against=against,
    )


def at_most(
    gate: str,
    measured: float,
    bound: float,
    detail: str,
    *,
    against: str | None = None,
) -> GateResult:
    """A gate that allows a maximum."""
    return GateResult(
        gate=gate,
        outcome=Outcome.PASSED if measured <= bound else Outcome.FAILED,
        measured=measured,
        bound=bound,
        direction="at_most",
        detail=detail,
        against=against,
    )


def without_number(
    gate: str,
    outcome: Outcome,
    why: str,
    *,
    against: str | None = None,
    measured: float = 0.0,
) -> GateResult:
    """A gate that was not decided: skipped, or in error; `measured` is for people only."""
    return GateResult(
        gate=gate,
        outcome=outcome,
        measured=measured,
        bound=0.0,
        direction="at_least",
        detail=why,
        against=against,
    )


def unservable(reason: str) -> GateResult:
    """The verdict over a version that the service cannot serve: nothing else can be measured."""
    return at_least("artifact", 0.0, 1.0, reason)
