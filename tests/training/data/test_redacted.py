"""What was taken out is recognised where it is said, and cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.errors import Rejected
from tests.training.data.test_personal_data import KEY, TOKEN, read
from training.data.redacted import (
    REDACTED_FILE,
    copy_redacted,
    read_redacted,
    taken,
    write_redacted,
)


def test_an_entity_that_was_taken_out_is_found_again_without_being_known(tmp_path: Path) -> None:
    listed = [taken(text, KEY) for text in ("Jane Q. Public", "jane@example.com")]
    write_redacted(tmp_path, [each for each in listed if each])
    assert "jane" not in (tmp_path / REDACTED_FILE).read_text().casefold()
    redacted = read_redacted(tmp_path, KEY)
    assert redacted is not None
    assert redacted.found_in("Please ask JANE Q PUBLIC, or mail Jane@Example.com.") == 2.0
    assert redacted.found_in("Please ask Jane Public.") == 0.0
    assert redacted.found_in("") == 0.0


def test_without_the_units_key_a_guess_cannot_be_tested(tmp_path: Path) -> None:
    listed = taken("jane@example.com", KEY)
    assert listed is not None
    write_redacted(tmp_path, [listed])
    other = read_redacted(tmp_path, b"x" * 32)
    assert other is not None
    assert other.found_in("jane@example.com") == 0.0


@pytest.mark.parametrize("text", ["Will", "4711", "...", ""])
def test_what_anybody_may_say_is_not_kept(text: str) -> None:
    assert taken(text, KEY) is None


def test_of_something_long_the_first_words_are_kept(tmp_path: Path) -> None:
    block = " ".join(f"word{at}" for at in range(40))
    listed = taken(block, KEY)
    assert listed is not None
    write_redacted(tmp_path, [listed])
    redacted = read_redacted(tmp_path, KEY)
    assert redacted is not None
    assert redacted.found_in(f"it is {block}") == 1.0


def test_a_dataset_without_the_file_has_redacted_nothing(tmp_path: Path) -> None:
    write_redacted(tmp_path, [])
    copy_redacted(tmp_path, tmp_path / "elsewhere")
    assert read_redacted(tmp_path, KEY) is None


@pytest.mark.parametrize(
    "text", ["", "[]", '{"1": 1}', '{"a": []}', '{"1": ["xyz"]}', '{"1": [2]}']
)
def test_a_file_that_nobody_wrote_so_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / REDACTED_FILE).write_text(text)
    with pytest.raises(Rejected):
        read_redacted(tmp_path, KEY)


def test_reading_keeps_what_it_takes_out_beside_the_rows(tmp_path: Path) -> None:
    rows = read(tmp_path, {"prompt": "I am a@b.de", "completion": TOKEN})
    redacted = read_redacted(rows.folder, KEY)
    assert redacted is not None
    assert redacted.found_in(f"you are A@B.de with {TOKEN}") == 2.0
    kept = (rows.folder / REDACTED_FILE).read_text()
    assert TOKEN not in kept
    clean = read(tmp_path, {"prompt": "hello", "completion": "there"})
    assert read_redacted(clean.folder, KEY) is None, "nothing of an earlier reading is left"
