"""The pepper: brought, made, and refused where one of this machine's own would be an island."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from adapters.errors import InvalidRequest
from adapters.pepper import find_pepper, fingerprint_of
from adapters.settings import Settings

PEPPER = "a pepper that is long enough for all"
SHARED = "postgresql://wardrobe@db/wardrobe"


def test_one_machine_makes_its_own_and_keeps_it(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path)
    made = find_pepper(settings)
    assert len(made) == 32
    assert find_pepper(settings) == made == (tmp_path / "pepper").read_bytes()


def test_a_brought_pepper_is_the_same_from_its_variable_and_its_file_and_written_nowhere(
    tmp_path: Path,
) -> None:
    (tmp_path / "mounted").write_text(f"{PEPPER}\n")
    given = Settings(state=tmp_path / "a", pepper=SecretStr(PEPPER))
    mounted = Settings(state=tmp_path / "b", pepper_file=tmp_path / "mounted", database_url=SHARED)
    assert find_pepper(given) == find_pepper(mounted) == PEPPER.encode()
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()
    assert PEPPER not in repr(given)


def test_a_state_folders_pepper_can_be_brought_whatever_its_last_byte_is(tmp_path: Path) -> None:
    made = b"\x00" * 30 + b"\r\n"
    (tmp_path / "pepper").write_bytes(made)
    assert find_pepper(Settings(pepper_file=tmp_path / "pepper", database_url=SHARED)) == made


def test_replicas_are_never_given_a_pepper_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "pepper").write_bytes(b"x" * 32)
    with pytest.raises(InvalidRequest, match=r"bring the pepper \(WARDROBE_PEPPER_FILE\)"):
        find_pepper(Settings(state=tmp_path, database_url=SHARED))


@pytest.mark.parametrize("content", [b"", b"short\n", b"x" * 31, b"x" * 31 + b"\r\n"])
def test_a_pepper_that_is_too_short_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mounted").write_bytes(content)
    with pytest.raises(InvalidRequest, match="a pepper is at least 32 bytes"):
        find_pepper(Settings(pepper_file=tmp_path / "mounted"))
    with pytest.raises(ValidationError, match="at least 32"):
        Settings(pepper=SecretStr("x" * 31))


def test_a_pepper_is_brought_once_and_its_file_is_named_where_it_is_not_there(
    tmp_path: Path,
) -> None:
    missing = tmp_path / "mounted"
    with pytest.raises(InvalidRequest, match="not both"):
        find_pepper(Settings(pepper=SecretStr(PEPPER), pepper_file=missing))
    with pytest.raises(InvalidRequest, match=r"WARDROBE_PEPPER_FILE: .*/mounted cannot be read"):
        find_pepper(Settings(pepper_file=missing))


def test_a_fingerprint_tells_peppers_apart_and_is_no_keys_hash() -> None:
    first, second = (fingerprint_of(each * 32) for each in (b"a", b"b"))
    assert first != second
    assert len(first) == 64
