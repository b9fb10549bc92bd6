"""Topics: questions that share one answer, asked through phrases in sentence frames.

Used by the units whose answer is a function of what is asked: support and the policies of hr.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from examples.generator.wording import Phrases, Split, capitalised, product

GOAL_FRAMES = (
    "How do I {}?",
    "How can I {}?",
    "I want to {}.",
    "I need to {}.",
    "I would like to {}.",
    "Please help me {}.",
    "Can you help me {}?",
    "I am trying to {}.",
    "Can I {}?",
    "Please show me how to {}.",
)
PROBLEM_FRAMES = (
    "{}.",
    "{}, what now?",
    "{}. What can I do?",
    "My problem is that {}.",
    "It looks like {}.",
    "Since yesterday {}.",
    "Sorry, but {}.",
    "Today {}.",
    "I think {}.",
)
SUBJECT_FRAMES = (
    "What is the rule on {}?",
    "What about {}?",
    "I have a question about {}.",
    "Please explain {}.",
    "Tell me about {}.",
    "A question about {}.",
    "What should I know about {}?",
)


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One answer and the two halves of each kind of phrase that asks for it.

    `goals` read after "to", `problems` are clauses, `subjects` read after "about".
    """

    name: str
    answer: str
    goals: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    problems: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    subjects: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


@dataclass(frozen=True, kw_only=True)
class Asker:
    """Asks for a topic in the wordings that one split owns."""

    topics: tuple[Topic, ...]
    seed: str
    _phrases: Mapping[tuple[str, tuple[str, ...]], Phrases] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        divided = {
            (topic.name, frames): Phrases.divide(
                product(*halves), seed=f"{self.seed}/{topic.name}/{kind}"
            )
            for topic in self.topics
            for kind, frames, halves in _kinds(topic)
        }
        object.__setattr__(self, "_phrases", divided)

    def question(self, topic: Topic, split: Split, rng: Random) -> str:
        """One question, with the kinds of phrase weighted by how many phrases each has."""
        choices = [
            (frames, phrase)
            for (name, frames), phrases in self._phrases.items()
            if name == topic.name
            for phrase in phrases.of(split)
        ]
        frames, phrase = rng.choice(choices)
        return capitalised(rng.choice(frames).format(phrase))


def _kinds(
    topic: Topic,
) -> tuple[tuple[str, tuple[str, ...], tuple[tuple[str, ...], tuple[str, ...]]], ...]:
    kinds = (
        ("goals", GOAL_FRAMES, topic.goals),
        ("problems", PROBLEM_FRAMES, topic.problems),
        ("subjects", SUBJECT_FRAMES, topic.subjects),
    )
    return tuple(kind for kind in kinds if kind[2][0])
