"""Datasets: the three parts, how much each needs, and what a dataset says of itself.

An example belongs to a part by what it asks, for the life of its adapter. A question whose answer
an adapter was taught never measures a later version of it, and a question that measures it is
never taught: so two versions are compared on the same rows, and neither has seen them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

SHARE = 0.1
"""Of the examples, for test and for validation alike, where the owner brings no validation file."""
TEST_SHARE_OF_VALIDATION_FILE = 2 / 3
"""Of a validation file's examples: what is proven by needs more than what is chosen by."""
MIN_TEST = 16
"""Fewest test examples: with fewer, an interval says nothing."""
MIN_VALIDATION = 8
"""Fewest validation examples that can tell one checkpoint from another."""
MAX_MEASURED = 512
"""Most examples of the test and of the validation part: more says nothing new and costs time at
every evaluation."""


class Part(StrEnum):
    """What an example is for."""

    TRAIN = "train"
    """The adapter learns from it."""
    VALIDATION = "validation"
    """It chooses the checkpoint."""
    TEST = "test"
    """The gates measure by it; what trains never opens it."""

    @property
    def fewest(self) -> int:
        """Examples below which a part says nothing; of training the unit decides."""
        return {Part.TRAIN: 1, Part.VALIDATION: MIN_VALIDATION, Part.TEST: MIN_TEST}[self]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many examples each part has."""

    train: int
    validation: int
    test: int
