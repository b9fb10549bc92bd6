"""Scores of answers."""

from __future__ import annotations

import pytest

from training.evaluate.scores import exact_match, token_f1


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [("yes", "yes", 1.0), (" yes\n", "yes", 1.0), ("Yes", "yes", 0.0), ("", "yes", 0.0)],
)
def test_exact_match_forgives_the_spaces_around(answer: str, reference: str, score: float) -> None:
    assert exact_match(answer, reference) == score


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("the cat sat", "the cat sat", 1.0),
        ("The CAT", "the cat", 1.0),
        ("a b", "a c", 0.5),
        ("a a", "a", 2 / 3),
        ('{"a":1}', '{"a":2}', 6 / 7),
        ("x", "y", 0.0),
        ("", "y", 0.0),
        ("", "", 1.0),
    ],
)
def test_token_f1_counts_shared_words_and_signs(answer: str, reference: str, score: float) -> None:
    assert token_f1(answer, reference) == pytest.approx(score)
