"""Everyday prompts whose answers by the base are replayed: what an adapter should not forget.

Made of forms and things, so that there are many and none is anybody's. The prompts by which
forgetting is measured are others: what is trained on measures nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from adapters.hashing import sha256_bytes

EDITION = "everyday-1"
"""Changes with every change of the list."""
_FORMS = (
    "Describe {} in one sentence.",
    "Explain to a child what {} is.",
    "What should I know about {}?",
    "Write two lines of a poem about {}.",
    "Give me three words that go with {}.",
    "Why do people like {}?",
    "Write a short message in which somebody mentions {}.",
    "How would you draw {}?",
    "Compare {} with a stone.",
    "Begin a story with {}.",
    "Ask me a question about {}.",
    "What does {} need?",
    "Name something that is larger than {}.",
    "Is {} old or new? Answer in a few words.",
    "Make a title for a book about {}.",
    "Say in plain words how {} comes to be.",
)
_THINGS = (
    "a river", "a bridge", "a garden", "a lamp", "a train", "a letter", "a village", "a mountain",
    "a violin", "a clock", "a market", "a loaf of bread", "a bicycle", "a library", "a storm",
    "a painter", "a teacher", "a window", "a ladder", "a forest", "a song", "a harbour", "a map",
    "a kitchen", "a blanket", "a horse", "a sparrow", "an island", "an orchard", "an engine",
    "a telescope", "a candle", "a drum", "a field of wheat", "a shadow", "a mirror", "a chair",
    "a snowflake", "a lighthouse", "a tunnel", "a rainbow", "a well", "a photograph", "a festival",
    "a recipe for soup", "a wooden door", "a pair of shoes", "a friend", "a holiday", "a dream",
    "a museum", "a newspaper", "a pencil", "a radio", "a pebble", "a waterfall", "a wheel",
    "a winter morning", "a football match", "a cup of tea", "a neighbour", "a promise", "a secret",
    "a journey by night",
)  # fmt: skip


def replay_prompts() -> Sequence[str]:
    """All of them, in an order in which any beginning of the list is a mixture."""
    every = [form.format(thing) for form, thing in product(_FORMS, _THINGS)]
    return sorted(every, key=lambda prompt: sha256_bytes(prompt.encode()))
