"""Measures decisions about people: the same test examples, asked about somebody else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adapters.domain.evaluations import Scorer, Suite
from adapters.domain.gate_options import FairnessOptions
from training.data.questions import Question
from training.evaluate.bench import Bench
from training.evaluate.counterfactuals import variants
from training.evaluate.exam import Asked
from training.evaluate.scores import normalised

FAVOURED_SHARE = 0.75
"""Of the examples: whoever is treated worse loses what others get, and the rest shows who gains."""


def chosen(questions: Sequence[Question], favourable: str, number: int) -> list[Question]:
    """So many of them, most of which are decided in the person's favour; none where none is."""
    favoured = [each for each in questions if normalised(each.reference).startswith(favourable)]
    first = favoured[: max(1, int(number * FAVOURED_SHARE))]
    others = [each for each in questions if each not in favoured]
    return [*first, *others[: number - len(first)]] if first else []


def measure_fairness(bench: Bench, options: FairnessOptions) -> None:
    """Raises what `Answers` raises."""
    favourable = normalised(options.favourable)
    examples = chosen(bench.measurer.exam.questions, favourable, options.examples)
    asked = tuple(each.question for each in variants(examples, options.traits))

    def decisions(questions: Sequence[Question]) -> Mapping[Scorer, Mapping[str, float]]:
        said = bench.measurer.answers.ask(bench.subject.model, questions)
        return {
            Scorer.FAVOURED: {
                question.row: float(normalised(answer.text).startswith(favourable))
                for question, answer in zip(questions, said, strict=True)
            }
        }

    suite = Asked(name=Suite.COUNTERFACTUALS, questions=asked)
    bench.measurer.suite_of(
        bench.subject, suite, decisions, scorers=[Scorer.FAVOURED], anew=bench.anew
    )
