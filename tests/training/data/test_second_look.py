"""What is left of personal data once it was screened: counted by what no finder knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters.domain.data_policy import Approval, DataPolicy, PersonalData
from tests.training.data.test_formats import TOOL
from tests.training.data.test_personal_data import KEY, read, texts
from training.data.examples import Example, Message
from training.data.read import notes_of
from training.data.redact import screen_for, second_look_for


def left_in(text: str, folder: Path, **policy: Any) -> dict[str, int]:
    screen = screen_for(DataPolicy(**policy), folder=folder, key=KEY)
    turns = (Message(role="user", content=text), Message(role="assistant", content="ok"))
    return dict(second_look_for(screen, folder).left_in(Example(messages=turns)))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Please ask Ms. Okafor about it.", "PERSON"),
        ("Frau Dr. Lindqvist ist krank", "PERSON"),
        ("My name is Priya and I moved", "PERSON"),
        ("Candidate name: Chidi, 8 years", "PERSON"),
        ("Dear Ingrid,\nthank you", "PERSON"),
        ("See below.\nKind regards,\nPaolo Rossi", "PERSON"),
        ("write to anna (at) firma [dot] de", "EMAIL"),
        ("write to anna at firma dot de", "EMAIL"),
        ("phone: 5551234", "PHONE"),
        ("Mobil: 0999 12 34 56 78", "PHONE"),
        ('{"phone": 4930123456}', "PHONE"),
        ("my ssn is 536 22 1234", "SSN"),
        ("card 4111.1111.1111.1111", "CARD"),
        ("DE89-3704-0044-0532-0130-00", "IBAN"),
    ],
)
def test_what_no_form_and_no_list_tells_is_seen_by_the_words_around_it(
    text: str, label: str, tmp_path: Path
) -> None:
    assert left_in(text, tmp_path) == {label: 1}


@pytest.mark.parametrize(
    "text",
    [
        "Dear team, I want to book a holiday.",
        "Dear Customer,\nHello World!\nHi all,",
        "Best regards,\nThe support team",
        "Thanks, Mr. President. Miss it not. dr no",
        "Call us between 8:00 and 18:00, 7 days, 365 days a year.",
        "We met at noon. He looked at home.",
        "Order 4111 2222 3333 4445 and invoice 2026-000123456",
        "Dear [PERSON-7KQ2ABCD],\nphone: [PHONE-234567AB], Ms [PERSON-ABCDEFGH]",
        "wanted: nurse. From Anna: I worked 6 years in a team.",
    ],
)
def test_what_only_looks_like_it_is_not_counted(text: str, tmp_path: Path) -> None:
    assert left_in(text, tmp_path) == {}


def test_kinds_that_a_unit_does_not_look_for_are_not_left(tmp_path: Path) -> None:
    assert left_in("Dear Ingrid,\nphone: 5551234", tmp_path, entities=["PHONE_NUMBER"]) == {
        "PHONE": 1
    }


def test_what_is_left_is_counted_and_its_lines_are_told_without_its_words(tmp_path: Path) -> None:
    records = [{"prompt": f"question {at}", "completion": "a@b.de"} for at in range(3)]
    letter = {"prompt": "Dear Ingrid,\nask Ms. Okafor", "completion": "yes"}
    rows = read(tmp_path, *records, letter)
    assert rows.found["left"] == 2
    part = rows.found["parts"]["training_file"]
    assert (part["left"], part["left_lines"]) == ({"PERSON": 2}, [4])
    (said,) = [said for level, said in notes_of(rows.found) if level == "warn"]
    assert "seems to be left: 2 PERSON (training file, first on lines 4)" in said
    assert "Ingrid" not in said


def test_what_is_allowed_is_counted_as_approved_and_is_not_left(tmp_path: Path) -> None:
    approval = Approval(by="J. Doe", reason="names are the task")
    rows = read(
        tmp_path,
        {"prompt": "Dear Ingrid,\nmail a@b.de", "completion": "+49 30 1234567"},
        personal_data=PersonalData.ALLOW,
        approval=approval,
    )
    assert "left" not in rows.found
    assert rows.found["approved"] == 3


# -- what is replaced since it was left


def test_whoever_is_named_in_full_is_not_left_by_half_of_the_name(tmp_path: Path) -> None:
    (tmp_path / "staff.txt").write_text("Anna von der Heide\n")
    rows = read(
        tmp_path,
        {"prompt": "I am Anna von der Heide", "completion": "Hello Anna, der heide is Heide's."},
        {"prompt": "Who is Anna?", "completion": "Nobody."},
        directories=["staff.txt"],
    )
    first, second = texts(rows).splitlines()
    assert first.count("[PERSON-") == 3
    assert "der heide is" in first
    assert "Anna" in second, "somebody else, for all that is known"
    assert rows.found["parts"]["training_file"]["entities"] == {"PERSON": 3}


def test_metadata_and_the_names_in_a_calls_arguments_are_screened_too(tmp_path: Path) -> None:
    arguments = json.dumps({"a@b.de": {"who": "c@d.de"}})
    function = {"name": "find_part", "arguments": arguments}
    record = {
        "tools": [TOOL],
        "messages": [
            {"role": "user", "content": "who?"},
            {
                "role": "assistant",
                "tool_calls": [{"id": "c", "type": "function", "function": function}],
            },
        ],
        "metadata": {"clerk": "e@f.de", "desk": "berlin"},
    }
    said = texts(read(tmp_path, record))
    assert "@" not in said
    assert said.count("[EMAIL-") == 3
    assert '"desk", "berlin"' in said
