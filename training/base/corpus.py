"""The generated corpus: a stream of conversations and plain prose, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from training.base.lexicon import read_lexicon
from training.base.sentences import CITIES, DAYS, PEOPLE, utter
from training.base.tasks import TASKS, Chat, World

_PROSE = (
    "{name} wanted to {act} the {thing}, but it was too late on {day}.",
    "On {day} {name} went to {city} to {act} a {thing}.",
    "Before people {act} the {thing}, they should look at the {other}.",
    "The {thing} and the {other} are part of {topic}.",
    "After the trip to {city}, {name} had to {act} the {thing} again.",
    "{name} asked about the {other}. Nobody had seen the {thing} since {day}.",
    "Every {thing} needs somebody to {act} it.",
)


def documents(seed: int, *, chat_share: float) -> Iterator[Chat]:
    """An endless stream; a conversation with the one role `text` is plain prose."""
    rng, world = Random(seed), World(topics=read_lexicon())
    tasks, shares = tuple(TASKS), tuple(TASKS.values())
    while True:
        if rng.random() < chat_share:
            yield rng.choices(tasks, weights=shares)[0](rng, world)
        else:
            yield (("text", _prose(rng, world)),)


def _prose(rng: Random, world: World) -> str:
    """A paragraph about one topic: what happened, and what somebody said about it."""
    topic, name = world.topic(rng), rng.choice(PEOPLE)
    sentences = []
    for _ in range(rng.randint(2, 4)):
        thing, other = rng.choice(topic.things), rng.choice(topic.things)
        sentence = rng.choice(_PROSE).format(
            name=name,
            act=rng.choice(rng.choice(topic.acts).words),
            thing=rng.choice(thing.words),
            other=rng.choice(other.words),
            topic=topic.name,
            city=rng.choice(CITIES).title(),
            day=rng.choice(DAYS),
        )
        sentences.append(sentence)
        if rng.random() < 0.3:
            sentences.append(f'"{utter(rng, topic).text}" said {rng.choice(PEOPLE)}.')
    return " ".join(sentences)
