"""Where a base comes from, by what stands in its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.base.pedigree import Pedigree, read_pedigree

COMMIT = "a" * 40


def test_a_hubs_snapshot_has_an_id_a_commit_and_what_its_card_says(tmp_path: Path) -> None:
    base = tmp_path / "hub" / "models--Qwen--Qwen3-0.6B" / "snapshots" / COMMIT
    base.mkdir(parents=True)
    (base / "README.md").write_text("---\nlicense: apache-2.0\nlanguage:\n- en\n- zh\n---\n# Qwen")
    assert read_pedigree(base) == Pedigree(
        hub_id="Qwen/Qwen3-0.6B", revision=COMMIT, license="apache-2.0", language=("en", "zh")
    )


def test_a_licence_is_known_by_its_text(tmp_path: Path) -> None:
    text = f"{' ' * 33}Apache License\n{' ' * 27}Version 2.0, January"
    (tmp_path / "LICENSE").write_text(text)
    assert read_pedigree(tmp_path).license == "apache-2.0"


@pytest.mark.parametrize(
    "card",
    ["", "# no metadata", "---\n- a\n---\n", "---\na: [\n---\n", "---\nlicense: [mit]\n---\n"],
)
def test_what_nobody_says_is_not_known(tmp_path: Path, card: str) -> None:
    (tmp_path / "README.md").write_text(card)
    (tmp_path / "LICENSE").write_text("Ask us.")
    assert read_pedigree(tmp_path) == Pedigree()
    assert read_pedigree(tmp_path / "gone") == Pedigree()
