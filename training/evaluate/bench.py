"""What every suite is measured with: the two models, the renderer, and what keeps the scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from adapters.domain.evaluations import Scorer, Suite
from adapters.hashing import sha256_bytes
from training.base.chat_format import TemplateError
from training.data.examples import Example, Message
from training.data.questions import Question
from training.data.render import Renderer
from training.evaluate.exam import Asked, Subject
from training.evaluate.measure import Measurer, nats_of
from training.evaluate.suites import Item

_SUITE_NATS = (Scorer.NATS, Scorer.TOKENS)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A version beside its base, and how they are asked."""

    measurer: Measurer
    renderer: Renderer
    base: Subject
    subject: Subject
    anew: bool = False

    def ask(self, name: Suite, items: Sequence[Item], tokens: int, *, of_base: bool = True) -> None:
        """Whether answers of at most `tokens` pass; the base's are asked once and known then."""
        by_row = {f"{item.row}{tokens:04x}": item for item in items}
        questions = (
            self.question(_messages(item), row=row, tokens=tokens) for row, item in by_row.items()
        )
        suite = Asked(name=name, questions=tuple(questions))

        def passes(model: str, asked: Sequence[Question]) -> Mapping[Scorer, Mapping[str, float]]:
            said = self.measurer.answers.ask(model, asked)
            return {
                Scorer.PASSES: {
                    each.row: float(by_row[each.row].passes(answer.text))
                    for each, answer in zip(asked, said, strict=True)
                }
            }

        for subject in self._both if of_base else [self.subject]:
            self.measurer.suite_of(
                subject,
                suite,
                partial(passes, subject.model),
                scorers=[Scorer.PASSES],
                anew=self.anew and subject is self.subject,
            )

    def score(self, suite: Asked, *, of_base: bool) -> None:
        """Nats of the references of a suite, and how many tokens they have."""

        def nats(model: str, asked: Sequence[Question]) -> Mapping[Scorer, Mapping[str, float]]:
            given = self.measurer.answers.log_probs(model, asked)
            tokens = zip(asked, given, strict=True)
            return {
                Scorer.NATS: nats_of(asked, given),
                Scorer.TOKENS: {each.row: float(len(row)) for each, row in tokens},
            }

        for subject in self._both if of_base else [self.subject]:
            self.measurer.suite_of(
                subject,
                suite,
                partial(nats, subject.model),
                scorers=_SUITE_NATS,
                anew=self.anew and subject is self.subject,
            )

    @property
    def _both(self) -> list[Subject]:
        return [self.base, self.subject]

    def question(self, prompt: Sequence[Message], *, row: str, tokens: int) -> Question:
        """Something to be answered, with no reference."""
        return Question(
            row=row, prompt=tuple(prompt), reference="", max_tokens=tokens, ids=(), answer_start=0
        )

    def scored_question(self, prompt: Sequence[Message], answer: str) -> Question | None:
        """A prompt with its answer, to be scored; None where it cannot be rendered or is too long.

        Its row id is made from what it says.
        """
        if not answer.strip():
            return None
        messages = (*prompt, Message(role="assistant", content=answer))
        try:
            ids = self.renderer.rows(Example(messages=messages))[-1].ids
            start = len(self.renderer.prompt(prompt))
        except TemplateError:
            return None
        if not start < len(ids) <= self.measurer.exam.longest:
            return None
        said = json.dumps([asdict(message) for message in messages]).encode()
        return Question(
            row=sha256_bytes(said)[:32],
            prompt=tuple(prompt),
            reference=answer,
            max_tokens=1,
            ids=tuple(ids),
            answer_start=start,
        )


def _messages(item: Item) -> list[Message]:
    told = [] if item.system is None else [Message(role="system", content=item.system)]
    return [*told, Message(role="user", content=item.user)]
