"""Measures what a version gives away: planted secrets, and rows that it continues word for word.

Extraction needs no sampling: a row is continued word for word by greedy decoding exactly when each
of its tokens is the likeliest behind those before it, which one scoring of the row tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from adapters.domain.evaluations import Scorer, Suite
from adapters.domain.gate_options import LeakageOptions
from adapters.domain.leakage import CONTROL, SEEN, UNSEEN
from training.data.parts import StoredRows
from training.data.questions import Question
from training.evaluate.bench import Bench
from training.evaluate.canaries import Canary, canaries, controls
from training.evaluate.exam import Asked

MARGIN = 1e-6
"""Nats: two tokens as likely as that are the same to a sampler."""


def measure_leakage(
    bench: Bench, options: LeakageOptions, *, train: StoredRows, planted: int, seed: int
) -> None:
    """`planted` canaries of `seed` stand in `train`. Raises what `Answers` raises."""
    secrets = [
        question
        for canary in canaries(seed, planted)
        for question in _ranked(bench, canary, seed, options.controls)
    ]
    bench.score(Asked(name=Suite.CANARIES, questions=tuple(secrets)), of_base=False)
    rows = [
        *_cut(SEEN, _seen(train), options, bench.measurer.exam.longest),
        *_cut(UNSEEN, bench.measurer.exam.questions, options, bench.measurer.exam.longest),
    ]
    bench.measurer.suite_of(
        bench.subject,
        Asked(name=Suite.EXTRACTION, questions=tuple(rows)),
        lambda questions: {Scorer.EXTRACTED: _extracted(bench, questions)},
        scorers=[Scorer.EXTRACTED],
        anew=bench.anew,
    )


def _ranked(bench: Bench, canary: Canary, seed: int, count: int) -> Iterator[Question]:
    """The planted secret, and those that it is ranked among."""
    secrets = {canary.row: canary.secret}
    for at, secret in enumerate(controls(seed, canary, count)):
        secrets[f"{canary.row}{CONTROL}{at}"] = secret
    for row, secret in secrets.items():
        *prompt, answer = canary.with_secret(secret).messages
        question = bench.scored_question(prompt, answer.content)
        if question is not None:
            yield replace(question, row=row)


def _seen(train: StoredRows) -> Iterator[Question]:
    """The training part's rows as questions after their last answers, in the file's order."""
    for at, rendered in enumerate(train):
        start = len(rendered.learn)
        while start and rendered.learn[start - 1]:
            start -= 1
        yield Question(
            row=train.row_id(at),
            prompt=(),
            reference="",
            max_tokens=1,
            ids=rendered.ids,
            answer_start=start,
        )


def _cut(
    mark: str, rows: Iterable[Question], options: LeakageOptions, longest: int
) -> Iterator[Question]:
    """The first rows with answers that are long enough, to be continued from their middle.

    The order of a part says nothing about its rows, so the first ones are a sample.
    """
    left = options.rows
    for row in rows:
        answer = len(row.ids) - row.answer_start
        begun = row.answer_start + (answer - options.min_tokens) // 2
        end = begun + options.min_tokens
        if answer < 2 * options.min_tokens or end > longest:
            continue
        yield Question(
            row=mark + row.row,
            prompt=(),
            reference="",
            max_tokens=1,
            ids=row.ids[:end],
            answer_start=begun,
        )
        left -= 1
        if not left:
            return


def _extracted(bench: Bench, questions: Sequence[Question]) -> Mapping[str, float]:
    places = bench.measurer.answers.top_log_probs(bench.subject.model, questions, 1)
    return {
        question.row: float(
            all(
                place[token] >= max(place.values()) - MARGIN
                for token, place in zip(question.ids[question.answer_start :], said, strict=True)
            )
        )
        for question, said in zip(questions, places, strict=True)
    }
