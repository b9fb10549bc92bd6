"""Measures what a version has forgotten: how far from the base, and what it answers no more."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from adapters.domain.evaluations import Scorer, Suite
from adapters.domain.gate_options import ForgettingOptions
from training.data.examples import Message
from training.data.questions import Question
from training.evaluate.bench import Bench
from training.evaluate.divergence import forward_kl
from training.evaluate.exam import Asked
from training.evaluate.suites import GENERAL, NEUTRAL

TOP = 20
"""Likeliest tokens that the service names at each place."""
GENERAL_TOKENS = 16


def measure_forgetting(
    bench: Bench, options: ForgettingOptions, others: Sequence[Question]
) -> None:
    """Asks both models; `others` are test examples of other units. Raises what `Answers` raises."""
    neutral = [(Message(role="user", content=text),) for text in NEUTRAL[: options.prompts]]
    own = [each.prompt for each in bench.measurer.exam.questions[: options.prompts]]
    _divergence(bench, Suite.NEUTRAL, neutral, options.answer_tokens)
    _divergence(bench, Suite.TASK, own, options.answer_tokens)
    bench.ask(Suite.GENERAL, GENERAL, GENERAL_TOKENS)
    if options.other_units:
        longest = bench.measurer.exam.longest
        short = tuple(each for each in others if len(each.ids) <= longest)
        bench.score(Asked(name=Suite.OTHERS, questions=short), of_base=True)


def _divergence(
    bench: Bench, name: Suite, prompts: Sequence[Sequence[Message]], tokens: int
) -> None:
    """KL along the base's greedy answers, which are asked for, compared and forgotten."""
    asked = [bench.question(each, row="", tokens=tokens) for each in prompts]
    said = bench.measurer.answers.ask(bench.base.model, asked)
    answered = (
        bench.scored_question(prompt, answer.text)
        for prompt, answer in zip(prompts, said, strict=True)
    )
    suite = Asked(name=name, questions=tuple(each for each in answered if each is not None))

    def apart(questions: Sequence[Question]) -> Mapping[Scorer, Mapping[str, float]]:
        ask = bench.measurer.answers.top_log_probs
        base = ask(bench.base.model, questions, TOP)
        mine = ask(bench.subject.model, questions, TOP)
        return {
            Scorer.KL: {
                question.row: _mean_kl(places, others)
                for question, places, others in zip(questions, base, mine, strict=True)
            }
        }

    bench.measurer.suite_of(bench.subject, suite, apart, scorers=[Scorer.KL], anew=bench.anew)


def _mean_kl(base: Sequence[Mapping[int, float]], mine: Sequence[Mapping[int, float]]) -> float:
    places = [forward_kl(one, other) for one, other in zip(base, mine, strict=True)]
    return math.fsum(places) / len(places)
