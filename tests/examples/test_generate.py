"""The generator is deterministic, and the committed files are what it makes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples.generate import differing, files, main
from examples.generator.dataset import Example, Seen, WordingsExhaustedError, build
from examples.generator.wording import Phrases
from tests.examples.data_files import DATA, ROOT


def test_the_committed_files_are_what_the_generator_makes() -> None:
    assert differing(DATA) == []
    assert {str(path) for path, _ in files()} == {
        str(path.relative_to(DATA)) for path in DATA.rglob("*.jsonl")
    }


def test_another_process_with_another_hash_seed_makes_the_same_bytes(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "examples.generate", "--data", str(tmp_path)],
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        timeout=60,
    )
    assert differing(tmp_path) == []


def test_check_accepts_fresh_files_and_refuses_a_changed_or_missing_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(tmp_path)]) == 0
    assert main(["--check", "--data", str(tmp_path)]) == 0
    changed = tmp_path / "hr" / "test.jsonl"
    changed.write_bytes(changed.read_bytes() + b"\n")
    (tmp_path / "sales" / "train.jsonl").unlink()
    assert main(["--check", "--data", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert "hr/test.jsonl" in told
    assert "sales/train.jsonl" in told
    assert "support" not in told


def test_the_data_folder_stays_small_enough_to_commit() -> None:
    assert sum(path.stat().st_size for path in DATA.rglob("*.jsonl")) < 1_200_000


def test_a_unit_with_too_few_wordings_is_an_error_and_not_an_endless_loop() -> None:
    class Parrot:
        name = "parrot"
        system = "Repeat."

        def draft(self, index: int, split: object, rng: object) -> Example:
            return Example(user="always the same words", answer="yes")

    with pytest.raises(WordingsExhaustedError):
        build(Parrot())


def test_a_text_that_differs_only_in_case_and_punctuation_is_no_new_text() -> None:
    seen = Seen()
    assert seen.admit("How do I track my parcel?")
    assert not seen.admit("how do i track my parcel")
    assert seen.admit("Where can I find the invoice for March?")


def test_every_phrase_belongs_to_exactly_one_split() -> None:
    phrases = Phrases.divide((f"phrase {n}" for n in range(50)), seed="any")
    owned = (*phrases.train, *phrases.valid, *phrases.test)
    assert len(owned) == len(set(owned)) == 50
    assert (len(phrases.valid), len(phrases.test)) == (7, 7)
