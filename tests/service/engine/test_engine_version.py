"""What the installed engine lacks is known and said."""

from __future__ import annotations

import pytest

from service.engine.engine_version import ADVISORIES, WANTED, missing, notice


@pytest.mark.parametrize("version", ["0.33.0", "0.33.1", "0.40.0+cpu", "1.0"])
def test_nothing_is_said_of_an_engine_that_lacks_nothing(version: str) -> None:
    assert notice(version) is None


@pytest.mark.parametrize("version", ["0.32.0", "0.32.0+cpu", "0.32.0.post2"])
def test_an_older_one_is_told_with_what_it_lacks_and_which_door_is_shut(version: str) -> None:
    said = notice(version)
    assert said is not None
    assert version in said
    assert WANTED in said
    assert [one.id for one in missing(version)] == ["GHSA-5r3c-5x4v-8gjh"]
    assert "GHSA-5r3c-5x4v-8gjh (fixed in 0.33.0" in said
    assert "\n" not in said


def test_a_version_that_cannot_be_read_lacks_everything() -> None:
    assert missing("unknown") == ADVISORIES
