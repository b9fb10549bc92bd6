"""The schedule of a canary as somebody asks for it: a command, or a unit for what its jobs make."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from adapters.domain.canaries import DEFAULT_STEPS, CanaryPlan, Step

MAX_STEPS = 20
MAX_MINUTES = 30 * 24 * 60.0

PerCent = Annotated[float, Field(ge=0.0, le=100.0, allow_inf_nan=False)]
Part = Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False)]


class StepPolicy(BaseModel):
    """One step of a schedule."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: PerCent
    minutes: float = Field(default=0.0, ge=0.0, le=MAX_MINUTES, allow_inf_nan=False)


class CanaryPolicy(BaseModel):
    """A schedule, and what decides over it. What is not said is as in `CanaryPlan`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: tuple[StepPolicy, ...] = Field(default=(), max_length=MAX_STEPS)
    advances: bool = True
    rolls_back: bool = True
    min_requests: int = Field(default=CanaryPlan.min_requests, ge=10, le=1_000_000)
    tolerance: Part = CanaryPlan.tolerance
    slow_tolerance: Part = CanaryPlan.slow_tolerance
    score_tolerance: Part = CanaryPlan.score_tolerance
    needs_scores: bool = False

    @model_validator(mode="after")
    def _check_steps(self) -> Self:
        if self.advances and not all(0.0 < step.weight < 100.0 for step in self.steps):
            raise ValueError(
                "a step that goes on by itself compares: its weight is within 0 and 100"
            )
        return self

    def plan(self) -> CanaryPlan:
        """What the registry keeps of it: weights only grow, in whichever order they are said."""
        said = sorted(self.steps, key=lambda step: step.weight)
        steps = tuple(Step(weight=one.weight, minutes=one.minutes) for one in said)
        return CanaryPlan(
            steps=steps or DEFAULT_STEPS,
            advances=self.advances,
            rolls_back=self.rolls_back,
            min_requests=self.min_requests,
            tolerance=self.tolerance,
            slow_tolerance=self.slow_tolerance,
            score_tolerance=self.score_tolerance,
            needs_scores=self.needs_scores,
        )
