"""Small chat tasks with a right answer: name the meaning, choose, extract, copy, reckon, reply.

Each task is a function of the dice and the world (`World`) that returns one conversation.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from training.base.lexicon import Topic
from training.base.sentences import CITIES, DAYS, PEOPLE, fill, reword, utter

Chat = tuple[tuple[str, str], ...]
"""(role, content) pairs, in order."""

_LABEL_SYSTEMS = (
    "You name the meaning of a message. Answer with the label only.",
    "Answer with the label only.",
    "You sort questions. Reply with one label and nothing else.",
    "Read the message and say what it means, in one label.",
    "Label the message.",
)
_TOPIC_SYSTEMS = (
    "You sort messages by topic. Answer with the topic only.",
    "Which part of life is this about? One word.",
    "Name the topic and nothing else.",
)
_OPPOSITES = (
    "hot cold", "big small", "open closed", "early late", "cheap expensive", "happy sad",
    "fast slow", "new old", "easy hard", "full empty", "high low", "first last", "left right",
    "clean dirty", "strong weak", "rich poor", "light dark", "near far", "buy sell", "win lose",
)  # fmt: skip
_KINDS = {
    "vegetable": "carrot onion potato pea cabbage leek",
    "fruit": "apple pear plum cherry melon grape",
    "animal": "dog cat horse cow bird fish mouse lion",
    "colour": "red blue green yellow brown black white",
    "tool": "hammer saw drill wrench screwdriver",
    "vehicle": "car bus train boat bicycle truck",
    "metal": "iron gold silver copper tin",
    "job": "doctor teacher driver lawyer baker engineer",
}
_CHATTER = (
    ("hello", "Hello! How can I help you today?"),
    ("hi there", "Hi! What can I do for you?"),
    ("thank you", "You are welcome."),
    ("thanks a lot", "You are very welcome."),
    ("how are you", "I am fine, thank you. How can I help?"),
    ("who are you", "I am a small language model. I help with everyday questions."),
    ("are you a person", "No, I am a computer program."),
    ("goodbye", "Goodbye! Have a nice day."),
    ("that is all", "Thank you for writing. Goodbye!"),
    ("what can you do", "I can answer short questions, sort messages and copy text."),
)


@dataclass(frozen=True, kw_only=True)
class World:
    """What tasks may talk about."""

    topics: tuple[Topic, ...]

    def topic(self, rng: Random) -> Topic:
        """Any topic; one with more things comes up more often."""
        return rng.choices(self.topics, weights=[len(topic.things) for topic in self.topics])[0]


def name_the_label(rng: Random, world: World) -> Chat:
    """The meaning of an utterance as its label."""
    said = utter(rng, world.topic(rng))
    return (("system", rng.choice(_LABEL_SYSTEMS)), ("user", said.text), ("assistant", said.label))


def name_the_topic(rng: Random, world: World) -> Chat:
    """The topic of an utterance."""
    said = utter(rng, world.topic(rng))
    return (("system", rng.choice(_TOPIC_SYSTEMS)), ("user", said.text), ("assistant", said.topic))


def choose_the_label(rng: Random, world: World) -> Chat:
    """The right one of a few labels that stand in the question."""
    topic = world.topic(rng)
    said = utter(rng, topic)
    labels = {said.label} | {utter(rng, topic).label for _ in range(rng.randint(1, 3))}
    listed = sorted(labels, key=lambda _: rng.random())
    question = f"{said.text}\nChoose one: {', '.join(listed)}"
    return (("user", question), ("assistant", said.label))


def same_meaning(rng: Random, world: World) -> Chat:
    """Whether two requests mean the same."""
    topic = world.topic(rng)
    act, thing = rng.choice(topic.acts), rng.choice(topic.things)
    one = reword(rng, topic, act=act, thing=thing)
    same = rng.random() < 0.5
    other = reword(rng, topic, act=act, thing=thing) if same else utter(rng, topic)
    answer = "yes" if one.label == other.label else "no"
    question = f"Do these mean the same? 1. {one.text} 2. {other.text}"
    return (("user", question), ("assistant", answer))


def say_it_again(rng: Random, world: World) -> Chat:
    """A request in other words."""
    topic = world.topic(rng)
    act, thing = rng.choice(topic.acts), rng.choice(topic.things)
    one, two = (reword(rng, topic, act=act, thing=thing) for _ in range(2))
    return (("user", f"Say it in other words: {one.text}"), ("assistant", two.text))


def synonym(rng: Random, world: World) -> Chat:
    """The plain name of a thing or an act."""
    topic = world.topic(rng)
    concept = rng.choice(topic.things + topic.acts)
    word = rng.choice(concept.words)
    return (("user", f"What is another word for {word}?"), ("assistant", concept.words[0]))


def copy(rng: Random, world: World) -> Chat:
    """A sentence, exactly."""
    said = utter(rng, world.topic(rng)).text
    ask = rng.choice(("Repeat exactly: ", "Copy this: ", "Say: "))
    return (("user", ask + said), ("assistant", said))


def extract(rng: Random, world: World) -> Chat:
    """The facts of an order as JSON."""
    thing = rng.choice(world.topic(rng).things).words[0]
    facts = {
        "name": rng.choice(PEOPLE),
        "item": thing,
        "count": rng.randint(1, 99),
        "city": rng.choice(CITIES),
        "day": rng.choice(DAYS),
    }
    frame = rng.choice(
        (
            "{name} from {city} wants {count} of the {item} by {day}.",
            "Please note: {count} x {item} for {name}, {city}, due {day}.",
            "On {day} {name} called from {city} and asked for {count} times {item}.",
        )
    )
    keys = sorted(facts, key=lambda _: rng.random())[: rng.randint(2, 5)]
    answer = json.dumps({key: facts[key] for key in keys})
    question = f"{frame.format(**facts)}\nGive {', '.join(keys)} as JSON."
    return (("user", question), ("assistant", answer))


def look_it_up(rng: Random, world: World) -> Chat:
    """A question about one of a few facts that were just told."""
    names = rng.sample(PEOPLE, 3)
    cities, days = rng.sample(CITIES, 3), rng.sample(DAYS, 3)
    told = " ".join(
        f"{name} goes to {city} on {day}."
        for name, city, day in zip(names, cities, days, strict=True)
    )
    i = rng.randrange(3)
    question, answer = rng.choice(
        (
            (f"Where does {names[i]} go?", cities[i]),
            (f"When does {names[i]} go?", days[i]),
            (f"Who goes to {cities[i]}?", names[i]),
        )
    )
    return (("user", f"{told} {question}"), ("assistant", answer))


def reckon(rng: Random, _: World) -> Chat:
    """A small sum."""
    a, b = rng.randint(0, 12), rng.randint(0, 12)
    return (("user", f"What is {a} plus {b}?"), ("assistant", str(a + b)))


def general_knowledge(rng: Random, _: World) -> Chat:
    """An opposite, a kind, or the day after."""
    if rng.random() < 0.5:
        one, two = rng.sample(rng.choice(_OPPOSITES).split(), 2)
        return (("user", f"What is the opposite of {one}?"), ("assistant", two))
    kind = rng.choice(tuple(_KINDS))
    member = rng.choice(_KINDS[kind].split())
    return (("user", f"What kind of thing is {member}?"), ("assistant", kind))


def reply(rng: Random, world: World) -> Chat:
    """A polite answer that names what was asked for, after some small talk now and then."""
    topic = world.topic(rng)
    act, thing = rng.choice(topic.acts), rng.choice(topic.things)
    asked = reword(rng, topic, act=act, thing=thing).text
    polite = rng.choice(
        (
            "I can help you {act} your {thing}. It will be ready on {day}.",
            "Of course. To {act} your {thing}, please write to the {topic} team.",
            "I am sorry, but nobody can {act} the {thing} before {day}.",
            "Thank you for your question about the {thing}. We will {act} it this {part}.",
        )
    )
    words = {"act": act.words[0], "thing": thing.words[0], "topic": topic.name}
    answer = fill(rng, polite.format(**words, day="{day}", part="{part}"))
    opening = rng.choice(_CHATTER) if rng.random() < 0.3 else None
    turns = (("user", asked), ("assistant", answer))
    return (("user", opening[0]), ("assistant", opening[1]), *turns) if opening else turns


def small_talk(rng: Random, _: World) -> Chat:
    """A greeting and its answer."""
    said, answer = rng.choice(_CHATTER)
    return (("user", said), ("assistant", answer))


TASKS: dict[Callable[[Random, World], Chat], float] = {
    name_the_label: 0.40,
    name_the_topic: 0.07,
    choose_the_label: 0.10,
    same_meaning: 0.05,
    say_it_again: 0.10,
    synonym: 0.06,
    copy: 0.04,
    extract: 0.05,
    look_it_up: 0.04,
    reckon: 0.01,
    general_knowledge: 0.02,
    reply: 0.05,
    small_talk: 0.01,
}
"""Every task and its share of the conversations."""
