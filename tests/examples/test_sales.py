"""A qualified lead is JSON with fixed keys, and its fields follow from the message."""

from __future__ import annotations

import json
import re
from collections import Counter
from random import Random

import pytest

from examples.generator.sales import FIT, KEYS, Sales
from examples.generator.sales_phrases import BUDGETS, SIZES, STARTS
from examples.generator.wording import Split
from tests.examples.data_files import SPLITS, rows


@pytest.mark.parametrize("split", SPLITS)
def test_every_lead_has_the_same_keys_in_the_same_order_and_known_values(split: str) -> None:
    for row in rows("sales", split):
        lead = json.loads(row.answer)
        assert tuple(lead) == KEYS
        assert lead["size"] in SIZES
        assert lead["budget"] in BUDGETS
        assert lead["start"] in STARTS
        assert lead["fit"] == FIT[lead["budget"]][lead["start"]]
        assert " " not in row.answer


@pytest.mark.parametrize("split", SPLITS)
def test_the_number_in_a_message_lies_in_its_size(split: str) -> None:
    bounds = {"small": (1, 9), "medium": (10, 99), "large": (100, 999)}
    for row in rows("sales", split):
        (number,) = re.findall(r"\b\d+\b", row.user)
        low, high = bounds[json.loads(row.answer)["size"]]
        assert low <= int(number) <= high


@pytest.mark.parametrize("split", SPLITS)
def test_sizes_budgets_starts_and_fits_are_balanced(split: str) -> None:
    leads = [json.loads(row.answer) for row in rows("sales", split)]
    for key in KEYS:
        counts = Counter(lead[key] for lead in leads)
        assert len(counts) == 3
        assert max(counts.values()) <= 1.4 * min(counts.values())


def test_a_phrase_says_one_label_only() -> None:
    for labels in (SIZES, BUDGETS, STARTS):
        phrases = [phrase for said in labels.values() for phrase in said]
        assert len(phrases) == len(set(phrases))


def test_a_drafted_lead_says_all_three_things() -> None:
    message = Sales().draft(0, Split.TEST, Random(7)).user.lower()
    assert re.search(r"\d", message)
    assert "budget" in message or "money" in message or "funding" in message
