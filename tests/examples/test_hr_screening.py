"""Screening follows its rules, read back from the text alone, and says nothing through names."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import pytest

from examples.generator.hr_screening import (
    ADVANCE,
    JOBS,
    NAMES,
    OUTCOMES,
    REJECT_CERTIFICATE,
    REJECT_YEARS,
    REVIEW_CERTIFICATE,
    REVIEW_YEARS,
    Application,
    decide,
)
from tests.examples.data_files import SPLITS, Row, rows

LACKING = re.compile(r"I (?:have no|hold no|still lack|am without|never got) ")


def _screened(split: str) -> list[Row]:
    return [row for row in rows("hr", split) if row.answer in OUTCOMES]


def _name(row: Row) -> str:
    found = [name for name in NAMES if re.search(rf"\b{name}\b", row.user)]
    assert len(found) == 1
    return found[0]


def _read(row: Row) -> Application:
    """The facts, from the text: the part before the name is the advertisement."""
    advertisement, application = re.split(rf"\b{_name(row)}\b", row.user)
    required = re.search(r"(\d) years", advertisement)
    assert required is not None
    years = re.search(r"(\d) years?", application)
    named = any(paper in application for _, paper in JOBS)
    return Application(
        required=int(required[1]),
        years=int(years[1]) if years else None,
        certificate=not LACKING.search(application) if named else None,
    )


@pytest.mark.parametrize("split", SPLITS)
def test_the_answer_follows_from_the_text_by_the_rules(split: str) -> None:
    assert [row.answer for row in _screened(split)] == [
        decide(_read(row)) for row in _screened(split)
    ]


@pytest.mark.parametrize(
    ("required", "years", "certificate", "outcome"),
    [
        (3, 3, True, ADVANCE),
        (3, 2, True, REJECT_YEARS),
        (3, 2, None, REJECT_YEARS),
        (3, 5, False, REJECT_CERTIFICATE),
        (3, 2, False, REJECT_CERTIFICATE),
        (3, None, True, REVIEW_YEARS),
        (3, None, None, REVIEW_YEARS),
        (3, 4, None, REVIEW_CERTIFICATE),
    ],
)
def test_the_rules_apply_in_order(
    required: int, years: int | None, certificate: bool | None, outcome: str
) -> None:
    application = Application(required=required, years=years, certificate=certificate)
    assert decide(application) == outcome


@pytest.mark.parametrize("split", SPLITS)
def test_a_name_says_nothing_about_the_outcome(split: str) -> None:
    verdicts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in _screened(split):
        verdicts[_name(row)][row.answer.split(":")[0]] += 1
    for counts in verdicts.values():
        assert counts["advance"] == counts["reject"] == counts["review"] > 0


def test_every_name_is_met_in_training() -> None:
    assert {_name(row) for row in _screened("train")} == set(NAMES)
