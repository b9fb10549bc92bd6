"""Personal data and secrets: found in prompts and answers, replaced, refused or approved."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from adapters.domain.data_policy import Approval, DataPolicy, Entity, PersonalData, Secrets
from adapters.domain.units import UnitLimits
from adapters.errors import InvalidFile, InvalidRequest
from tests.training.data.test_formats import CALL, TOOL, lines
from training.data.checked_rows import CheckedRows
from training.data.erased import Erased, erased_term
from training.data.name_finder import NameFinder
from training.data.pseudonyms import Pseudonyms, subject_of
from training.data.read import Rules, notes_of, read_rows
from training.data.redact import Screen, screen_for
from training.data.spans import Span, replaced, without_overlaps

KEY = b"k" * 32
TOKEN = "ghp_" + "a1B2" * 10


def screened(text: str, screen: Screen) -> str:
    spans = [(span, f"<{span.entity or 'SECRET'}>") for span in screen.spans(text)]
    return replaced(text, spans)


def plain_screen(folder: Path, **policy: Any) -> Screen:
    return screen_for(DataPolicy(**policy), folder=folder, key=KEY)


def read(folder: Path, *records: Any, **policy: Any) -> CheckedRows:
    erased = policy.pop("erased", Erased((), KEY))
    rules = Rules(
        limits=UnitLimits(min_examples=1),
        policy=DataPolicy(**policy),
        folder=folder,
        key=KEY,
        erased=erased,
    )
    content = lines(*records)
    parts = [("training_file", lambda: io.BytesIO(content))]
    return read_rows(parts, rules, folder / "rows", rules.made_from)


def texts(rows: CheckedRows) -> str:
    return (rows.folder / "rows.jsonl").read_text()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mail a.b+c@firma.de.", "Mail <EMAIL_ADDRESS>."),
        ("intern: root@mailhost, ok", "intern: <EMAIL_ADDRESS>, ok"),
        ("Call +49 30 1234567 now", "Call <PHONE_NUMBER> now"),
        ("Call (212) 456-7890 now", "Call <PHONE_NUMBER> now"),
        ("card 4111 1111 1111 1111.", "card <CREDIT_CARD>."),
        ("IBAN DE89 3704 0044 0532 0130 00 please", "IBAN <IBAN_CODE> please"),
        ("iban gb82west12345698765432", "iban <IBAN_CODE>"),
        ("from 10.1.2.3:80 or fe80::1", "from <IP_ADDRESS>:80 or <IP_ADDRESS>"),
        ("SSN 536-22-1234", "SSN <US_SSN>"),
        (f"use {TOKEN} here", "use <SECRET> here"),
        ("password: hunter2!x", "password: <SECRET>"),
        ("the password is required", "the password is required"),
        ("postgres://app:s3cr3t@db/x", "postgres://app:<SECRET>@db/x"),
        ("-----BEGIN PRIVATE KEY-----\nab\n-----END PRIVATE KEY-----", "<SECRET>"),
        ("Order 55123347 of 2026-11-26 at 10:30, room 12", None),
        ("card 4111 1111 1111 1112 has a wrong digit", None),
        ("price 1,299.00 for 12 x 30 cm; version 1.2.3", None),
    ],
)
def test_what_has_a_form_is_found_and_what_only_looks_like_it_is_not(
    text: str, expected: str | None, tmp_path: Path
) -> None:
    assert screened(text, plain_screen(tmp_path)) == (text if expected is None else expected)


def test_a_person_has_one_pseudonym_in_prompts_answers_and_calls(tmp_path: Path) -> None:
    (tmp_path / "staff.csv").write_text(
        "first_name,last_name,email,id\nAnna,Schmidt,anna@firma.de,K-4711\n"
    )
    called = {"id": "c", "function": {"name": "find_part", "arguments": '{"who": "Anna Schmidt"}'}}
    record = {
        "tools": [TOOL],
        "messages": [
            {"role": "system", "content": "You help SCHMIDT, Anna."},
            {"role": "user", "content": "I am Anna  Schmidt's boss: anna@firma.de, k-4711"},
            {"role": "assistant", "content": None, "tool_calls": [called | {"type": "function"}]},
            {"role": "tool", "tool_call_id": "c", "content": "Anna Schmidt: room 9"},
            {"role": "assistant", "content": "Anna Schmidt is in room 9."},
        ],
    }
    rows = read(tmp_path, record, directories=["staff.csv"])
    code = Pseudonyms(KEY).code(subject_of(Entity.PERSON, "Anna Schmidt"))
    said = texts(rows)
    assert said.count(f"[PERSON-{code}]") == 5
    assert f"[EMAIL-{code}]" in said
    assert f"[ID-{code}]" in said
    assert not any(word in said.lower() for word in ("anna", "schmidt", "4711"))
    assert rows.found["parts"]["training_file"]["entities"] == {"EMAIL": 1, "ID": 1, "PERSON": 5}
    assert ("info", "Replaced personal data by pseudonyms: 1 EMAIL, 1 ID, 5 PERSON") in notes_of(
        rows.found
    )


def test_a_name_of_one_word_is_found_only_as_the_directory_writes_it(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("Will\n\nJürgen Groß\n")
    screen = plain_screen(tmp_path, directories=["names.txt"])
    assert screened("Will it work? I will ask JÜRGEN GROSS.", screen) == (
        "<PERSON> it work? I will ask <PERSON>."
    )


def test_the_same_number_written_otherwise_has_the_same_pseudonym(tmp_path: Path) -> None:
    spans = plain_screen(tmp_path).spans("+49 30 1234567, or +49 (30) 123-4567")
    assert len({span.subject for span in spans}) == 1
    assert len(spans) == 2


def test_another_units_key_gives_other_pseudonyms() -> None:
    assert Pseudonyms(KEY).code("anna") != Pseudonyms(b"x" * 32).code("anna")


def test_screening_what_was_screened_changes_nothing(tmp_path: Path) -> None:
    first = read(tmp_path, {"prompt": "I am a@b.de", "completion": f"{TOKEN}"})
    said = texts(first)
    again = screened(said, plain_screen(tmp_path))
    assert again == said


def test_a_refusal_names_every_line_and_no_content(tmp_path: Path) -> None:
    records = [{"prompt": f"ask {at}", "completion": f"a{at}@b.de {TOKEN}"} for at in range(3)]
    with pytest.raises(InvalidFile) as caught:
        read(
            tmp_path,
            *records,
            personal_data=PersonalData.REFUSE,
            secrets=Secrets.REFUSE,
        )
    said = caught.value.message
    assert said.count("holds personal data (EMAIL, 1 times)") == 3
    assert "line 3: holds 1 secrets" in said
    assert "@" not in said
    assert TOKEN not in said


def test_what_is_refused_is_told_together_with_other_mistakes_in_the_order_of_lines(
    tmp_path: Path,
) -> None:
    records: list[Any] = [{"prompt": "no answer"}, {"prompt": "who", "completion": "a@b.de"}]
    with pytest.raises(InvalidFile) as caught:
        read(tmp_path, *records, {}, personal_data=PersonalData.REFUSE)
    problems = caught.value.message.removeprefix("Training file: ").split("; ")
    assert [problem[:7] for problem in problems[:3]] == ["line 1:", "line 2:", "line 3:"]
    assert "holds personal data (EMAIL, 1 times)" in problems[1]


def test_who_allows_personal_data_is_named_and_kept(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="needs an `approval`"):
        DataPolicy(personal_data=PersonalData.ALLOW)
    approval = Approval(by="J. Doe, data protection", reason="names are the task")
    rows = read(
        tmp_path,
        {"prompt": "a@b.de", "completion": TOKEN},
        personal_data=PersonalData.ALLOW,
        approval=approval,
    )
    assert "a@b.de" in texts(rows)
    assert TOKEN not in texts(rows), "secrets are nobody's to allow"
    assert rows.found["policy"]["approval"] == approval.model_dump()
    assert any("approved by J. Doe" in said for _, said in notes_of(rows.found))


def test_a_model_of_names_that_is_not_installed_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="names_model"):
        plain_screen(tmp_path, names_model="no_such_model")


@pytest.mark.parametrize("name", ["../x.csv", "/etc/passwd.txt", "x.yaml", ".hidden.csv"])
def test_a_directory_is_a_plain_name_beside_the_units_file(name: str) -> None:
    with pytest.raises(ValidationError):
        DataPolicy(directories=(name,))


def test_a_directory_that_cannot_be_read_is_named_without_its_content(tmp_path: Path) -> None:
    (tmp_path / "staff.csv").write_text("surname,secret\nAnna,Zanzibar\n")
    for name in ("staff.csv", "gone.csv"):
        with pytest.raises(InvalidRequest, match=name) as caught:
            plain_screen(tmp_path, directories=[name])
        assert "Zanzibar" not in caught.value.message


class Model:
    """A pipeline of spaCy's shape that knows one name and one place."""

    def __call__(self, text: str) -> Any:
        found = []
        for word, label in (("Anna", "PERSON"), ("Bonn", "GPE"), ("Monday", "DATE")):
            at = text.find(word)
            if at >= 0:
                found.append(Ent(word, label, at, at + len(word)))
        return Doc(found)


class Ent:
    def __init__(self, text: str, label: str, start: int, end: int) -> None:
        self.text, self.label_, self.start_char, self.end_char = text, label, start, end


class Doc:
    def __init__(self, ents: list[Ent]) -> None:
        self.ents = ents


def test_a_language_models_names_and_places_are_spans() -> None:
    finder = NameFinder(Model(), {Entity.PERSON, Entity.LOCATION})
    spans = without_overlaps(finder.find("On Monday Anna was in Bonn."))
    assert [(span.entity, span.start) for span in spans] == [
        (Entity.PERSON, 10),
        (Entity.LOCATION, 22),
    ]


def test_overlaps_leave_the_surest_and_then_the_longest() -> None:
    def span(start: int, end: int, rank: int = 0) -> Span:
        return Span(start=start, end=end, entity=Entity.ID, rank=rank)

    given = [span(0, 4), span(3, 9), span(9, 12), span(10, 11, 5), span(20, 30), span(22, 24)]
    kept = [(each.start, each.end) for each in without_overlaps(given)]
    assert kept == [(3, 9), (10, 11), (20, 30)]


# -- erasure


def test_records_of_an_erased_person_are_left_out_and_no_others(tmp_path: Path) -> None:
    terms = [erased_term(text, KEY) for text in ("Anna Schmidt", "anna@firma.de")]
    erased = Erased([term for term in terms if term], KEY)
    rows = read(
        tmp_path,
        {"prompt": "I am ANNA  schmidt!", "completion": "hello"},
        {"prompt": "who?", "completion": "write to <anna@firma.de>"},
        {"prompt": "I am Anna Smith", "completion": "hello"},
        {"prompt": "who?", "completion": "x", "metadata": {"clerk": "Anna Schmidt"}},
        erased=erased,
    )
    assert (len(rows.traces), rows.found["erased"]) == (1, 3)
    assert "Smith" in texts(rows)


def test_calls_are_looked_at_too() -> None:
    term = erased_term("lamp", KEY)
    assert term is not None
    assert Erased([term], KEY).hold('{"part": "lamp"}')
    assert not Erased([term], b"x" * 32).hold('{"part": "lamp"}')
    assert erased_term("...", KEY) is None
    assert CALL["id"] == "call_1"
