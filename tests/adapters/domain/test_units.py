"""The units folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.domain.units import InvalidUnits, load_units
from adapters.errors import InvalidRequest, NotFound


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_a_folder_of_units_is_read(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        support="unit: support\naliases: [support, triage]\nrecipe: {rank: 8}\n",
        sales="unit: sales\naliases: [sales]\ngates: {promote: manual}\n",
    )
    units = load_units(folder)
    assert units.get("support").recipe.rank == 8
    assert units.get("sales").gates.promote == "manual"
    assert dict(units.owner_of) == {"support": "support", "triage": "support", "sales": "sales"}
    with pytest.raises(NotFound):
        units.get("hr")


def test_all_mistakes_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        a="unit: support\naliases: [support]\n",
        b="unit: Sales\naliases: []\nrecipe: {rank: 0}\ncolour: red\n",
        c="unit: hr\naliases: [support]\n",
        d="unit: support\naliases: [other]\n",
        e="- a list",
        f="unit: [",
    )
    with pytest.raises(InvalidUnits) as raised:
        load_units(folder)
    told = "\n".join(raised.value.problems)
    for place in (
        "b.yaml: unit: ",
        "b.yaml: aliases: ",
        "b.yaml: recipe.rank: ",
        "b.yaml: colour: ",
        "c.yaml: aliases: `support` belongs to unit `support`",
        "d.yaml: unit: `support` is defined by another file too",
        "e.yaml: must be a mapping",
        "f.yaml: ",
    ):
        assert place in told


@pytest.mark.parametrize("name", ["admin", "trainer"])
def test_a_unit_is_not_called_like_a_role(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidUnits, match=rf"a\.yaml: unit: .*`{name}` is the name of a role"):
        load_units(write(tmp_path, a=f"unit: {name}\naliases: [{name}]\n"))


def test_a_key_that_is_there_twice_is_a_mistake_like_any_other(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        a="unit: a\naliases: [a]\nrecipe: {rank: 8, rank: 16}\ngates: {}\n'gates': {}\n",
        b="unit: b\naliases: [b]\nunit: b\ncolour: red\n",
        c="unit: c\naliases: [a]\n",
    )
    with pytest.raises(InvalidUnits) as raised:
        load_units(folder)
    assert sorted(raised.value.problems) == [
        "a.yaml: gates: is there more than once",
        "a.yaml: rank: is there more than once",
        "b.yaml: colour: Extra inputs are not permitted",
        "b.yaml: unit: is there more than once",
        "c.yaml: aliases: `a` belongs to unit `a`",
    ]


def test_a_merged_mapping_may_be_overridden(tmp_path: Path) -> None:
    text = "unit: a\naliases: [a]\nrecipe: {<<: {rank: 8, alpha: 8}, rank: 16}\n"
    recipe = load_units(write(tmp_path, a=text)).get("a").recipe
    assert (recipe.rank, recipe.alpha) == (16, 8)


def test_a_mistake_in_the_units_is_not_a_callers_fault() -> None:
    assert not issubclass(InvalidUnits, InvalidRequest)


@pytest.mark.parametrize("text", ["", "\x00", "!!python/object/apply:os.system ['true']"])
def test_yaml_that_is_no_plain_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidUnits):
        load_units(write(tmp_path, a=text))


def test_a_folder_without_units_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InvalidUnits, match=r"no \*\.yaml file"):
            load_units(folder)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidUnits, match="larger than"):
        load_units(write(tmp_path, a="#" * 300_000))
