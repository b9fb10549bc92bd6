"""The support unit: customer messages to a maker of indoor herb gardens, routed and answered.

The answer is `[route] sentence`, a function of the topic alone. The company, Pottlewick, and
everything it promises are invented.
"""

from __future__ import annotations

from random import Random

from examples.generator.dataset import Example
from examples.generator.support_topics import TOPICS
from examples.generator.topics import Asker
from examples.generator.wording import Manners, Split, written_in_haste

SYSTEM = "Customer support."

MANNERS = Manners(
    openings=(
        "",
        "",
        "",
        "",
        "",
        "Hi,",
        "Hello,",
        "Hey,",
        "Good morning.",
        "Dear team,",
        "I am new here.",
        "A quick question.",
        "We have your garden at home.",
    ),
    closings=(
        "",
        "",
        "",
        "",
        "",
        "Thanks!",
        "Thank you.",
        "Please help.",
        "Best wishes.",
        "It is urgent.",
        "No rush.",
    ),
)


class Support:
    """Drafts of support examples, one topic after the other."""

    name = "support"
    system = SYSTEM

    def __init__(self) -> None:
        self._asker = Asker(topics=TOPICS, seed=self.name)

    def draft(self, index: int, split: Split, rng: Random) -> Example:
        topic = TOPICS[index % len(TOPICS)]
        asked = MANNERS.around(self._asker.question(topic, split, rng), rng)
        return Example(user=written_in_haste(asked, rng), answer=topic.answer)
