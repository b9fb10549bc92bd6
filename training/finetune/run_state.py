"""How far a run is: with the trainee's tensors, all that a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from training.finetune.device_plan import DevicePlan, plan_from_json
from training.finetune.port import ChosenBy, Measures, measures_from_json


@dataclass(frozen=True, kw_only=True)
class RunState:
    """A run behind its step `step`."""

    plan: DevicePlan
    chosen_by: ChosenBy
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    learning_rate: float = 0.0
    """Of the newest step."""
    best_step: int = 0
    """0: none yet."""
    unimproved: int = 0
    """Evaluations since the best one."""
    ended: str | None = None
    """As in `FineTuned`; None while it goes on."""
    history: tuple[Measures, ...] = ()

    def evolve(self, **changes: Any) -> RunState:
        return replace(self, **changes)

    @property
    def evaluations(self) -> tuple[Measures, ...]:
        """The measures on the validation rows, oldest first."""
        return tuple(measures for measures in self.history if measures.evaluated)

    @property
    def best(self) -> Measures | None:
        """The measures of the best checkpoint: the adapter before training is none."""
        found = [each for each in self.evaluations if each.step == self.best_step > 0]
        return found[0] if found else None

    def judged(self, now: Measures) -> RunState:
        """The state with the evaluation `now`, by which the best checkpoint may be a new one."""
        judged = self.evolve(history=(*self.history, now))
        if now.step == 0:
            return judged
        if self.best is None or _score(now, self.chosen_by) > _score(self.best, self.chosen_by):
            return judged.evolve(best_step=now.step, unimproved=0)
        return judged.evolve(unimproved=self.unimproved + 1)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def state_from_json(values: Mapping[str, Any]) -> RunState:
    """What `as_json` gave."""
    return RunState(
        **{
            **values,
            "plan": plan_from_json(values["plan"]),
            "chosen_by": ChosenBy(values["chosen_by"]),
            "history": tuple(map(measures_from_json, values["history"])),
        }
    )


def _score(measures: Measures, chosen_by: ChosenBy) -> tuple[float, float]:
    """More is better."""
    answers = (measures.valid_answers or 0.0) if chosen_by is ChosenBy.ANSWERS else 0.0
    return answers, -(measures.valid_loss or 0.0)
