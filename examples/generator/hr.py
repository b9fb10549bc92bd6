"""The hr unit: two kinds of work in turn, policy questions and the screening of applications."""

from __future__ import annotations

from random import Random

from examples.generator.dataset import Example
from examples.generator.hr_policies import POLICIES
from examples.generator.hr_screening import Screening
from examples.generator.topics import Asker
from examples.generator.wording import Manners, Split, written_in_haste

SYSTEM = "HR desk."

MANNERS = Manners(
    openings=(
        "",
        "",
        "",
        "",
        "",
        "Hi,",
        "Hello,",
        "Good morning.",
        "Dear team,",
        "A quick question.",
        "I am new here.",
    ),
    closings=(
        "",
        "",
        "",
        "",
        "",
        "Thanks!",
        "Thank you.",
        "Please tell me.",
        "Best wishes.",
        "No hurry.",
    ),
)


class Hr:
    """Drafts of policy questions (even indices) and of applications (odd indices)."""

    name = "hr"
    system = SYSTEM

    def __init__(self) -> None:
        self._asker = Asker(topics=POLICIES, seed=self.name)
        self._screening = Screening()

    def draft(self, index: int, split: Split, rng: Random) -> Example:
        if index % 2:
            return self._screening.draft(index // 2, split, rng)
        topic = POLICIES[index // 2 % len(POLICIES)]
        asked = MANNERS.around(self._asker.question(topic, split, rng), rng)
        return Example(user=written_in_haste(asked, rng), answer=topic.answer)
