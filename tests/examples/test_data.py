"""What the committed example data promises: form, disjoint splits, one answer, balanced labels."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from examples.generator.dataset import normalised
from tests.examples.data_files import DATA, ROOT, SPLITS, UNITS, Row, rows


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("split", SPLITS)
def test_every_line_is_a_chat_of_system_user_and_assistant(unit: str, split: str) -> None:
    for line in (DATA / unit / f"{split}.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        assert list(record) == ["messages"]
        assert [m["role"] for m in record["messages"]] == ["system", "user", "assistant"]
        assert all(set(m) == {"role", "content"} and m["content"] for m in record["messages"])


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_has_enough_examples_and_one_system_text(unit: str) -> None:
    sizes = [len(rows(unit, split)) for split in SPLITS]
    assert sizes == [900, 120, 120]
    assert len({row.system for split in SPLITS for row in rows(unit, split)}) == 1


@pytest.mark.parametrize("unit", UNITS)
def test_no_user_text_stands_twice_in_a_unit(unit: str) -> None:
    texts = [normalised(row.user) for split in SPLITS for row in rows(unit, split)]
    assert len(texts) == len(set(texts))


@pytest.mark.parametrize("unit", UNITS)
def test_every_answer_of_valid_and_test_was_seen_in_training(unit: str) -> None:
    trained = {row.answer for row in rows(unit, "train")}
    for split in ("valid", "test"):
        assert {row.answer for row in rows(unit, split)} <= trained


@pytest.mark.parametrize("unit", UNITS)
def test_answers_are_short(unit: str) -> None:
    assert all(len(row.answer.split()) < 30 for split in SPLITS for row in rows(unit, split))


def test_support_topics_are_balanced_in_every_split() -> None:
    for split in SPLITS:
        counts = Counter(row.answer for row in rows("support", split))
        assert len(counts) == 16
        assert max(counts.values()) - min(counts.values()) <= 1
        assert all(answer.startswith("[") and "] " in answer for answer in counts)


def test_hr_is_half_policies_in_balance_and_half_screening_in_balance() -> None:
    for split in SPLITS:
        answers = [row.answer for row in rows("hr", split)]
        verdicts = ("advance: ", "reject: ", "review: ")
        outcomes = Counter(a.split(":")[0] for a in answers if a.startswith(verdicts))
        policies = Counter(a for a in answers if not a.startswith(verdicts))
        assert outcomes.total() == policies.total()
        assert len(set(outcomes.values())) == 1
        assert len(policies) == 12
        assert max(policies.values()) - min(policies.values()) <= 1


def test_the_samples_in_the_readme_are_lines_of_the_data() -> None:
    readme = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    blocks = [block.strip().splitlines() for block in readme.split("```")[1::2]]
    for unit in UNITS:
        known = rows(unit, "train")
        samples = [Row(*b) for b in blocks if len(b) == 3 and b[0] == known[0].system]
        assert len(samples) == 1
        assert samples[0] in known
