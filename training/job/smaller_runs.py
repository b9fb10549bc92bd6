"""What more examples would buy: the chosen recipe on a quarter and on a half of small data too.

Each smaller run takes as many steps as the whole one, so that what differs is the data and not the
time it was given, and is measured on the same validation rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, overload

from adapters.domain.recipes import Method
from training.data.learning_curve import SHARES, curve_of, is_cheap, nested
from training.data.parts import StoredRows
from training.data.preferences import Row, learnt_tokens
from training.finetune.port import ChosenBy, Diverged, FineTuned, FineTuner, Task, Watch
from training.job.progress import Reporter

MAX_EPOCHS = 50.0


class Chosen(Sequence[Row]):
    """Some rows of a sequence, by their places."""

    def __init__(self, rows: Sequence[Row], places: Sequence[int]) -> None:
        self._rows, self._places = rows, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | Sequence[Row]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        return self._rows[self._places[at]]


def smaller_sets(part: StoredRows, *, seed: int) -> list[tuple[int, list[int]]]:
    """(examples, places of their rows) of a quarter and a half; none where that is not worth it.

    All rows of an example go together, however often it is shown.
    """
    places: dict[str, list[int]] = {}
    for at in range(len(part)):
        places.setdefault(part.row_id(at), []).append(at)
    if not is_cheap(len(places)):
        return []
    listed = list(places.values())
    sets = nested(len(listed), seed=seed)[:-1]
    return [(len(each), [at for one in each for at in listed[one]]) for each in sets]


def learning_curve(
    tuner: FineTuner,
    whole: Task,
    done: FineTuned,
    reporter: Reporter,
    watch: Watch,
    *,
    part: StoredRows,
) -> Mapping[str, Any]:
    """What is kept of the curve through `done`, which `whole` has come to; nothing without one.

    `whole` trains on the rows of `part` alone. Raises as `FineTuner.tune` does, but Diverged.
    """
    sets = smaller_sets(part, seed=whole.recipe.seed)
    if not sets:
        return {}
    every = len({part.row_id(at) for at in range(len(part))})
    points = [(every, _score(done, done.chosen_by))]
    for share, (examples, places) in zip(SHARES, sets, strict=False):
        reporter.say(f"Learning curve: training on {examples} of {every} examples as well")
        task = _smaller(whole, places, share)
        try:
            run = tuner.tune(task, watch)
        except Diverged:
            reporter.say("There is no learning curve: a smaller run diverged", level="warn")
            return {}
        points.append((examples, _score(run, done.chosen_by)))
    scores = [(size, score) for size, score in points if score is not None]
    of = _scored(whole, done.chosen_by)
    tokens = sum(map(learnt_tokens, whole.validation)) if of == "tokens" else None
    curve = curve_of(scores, rows=len(whole.validation), tokens=tokens)
    if curve is None:
        return {}
    said = f"{curve.as_text()}; the score is the share of {of} right"
    reporter.say(said)
    return {
        "learning_curve": {
            "said": said,
            "points": [
                {"examples": size, "score": round(score, 4)} for size, score in sorted(scores)
            ],
            "twice": {
                "score": round(curve.twice, 4),
                "low": round(curve.low, 4),
                "high": round(curve.high, 4),
            },
            "validation_rows": curve.rows,
        }
    }


def _smaller(whole: Task, places: Sequence[int], share: float) -> Task:
    epochs = min(MAX_EPOCHS, whole.recipe.n_epochs / share)
    return replace(
        whole,
        train=Chosen(whole.train, places),
        recipe=whole.recipe.model_copy(update={"n_epochs": epochs}),
        workdir=whole.workdir.with_name(f"{whole.workdir.name}-{share:g}"),
    )


def _scored(whole: Task, by: ChosenBy) -> str:
    """What `_score` is the share of."""
    if by is ChosenBy.ANSWERS:
        return "answers"
    return "tokens" if whole.recipe.method is Method.SUPERVISED else "preferences"


def _score(run: FineTuned, by: ChosenBy) -> float | None:
    """From 0 to 1, of the checkpoint that was chosen."""
    if by is ChosenBy.ANSWERS:
        return run.best_answers
    best = [each.valid_accuracy for each in run.history if each.step == run.best_step]
    return best[-1] if best else None
