"""What is read of a base model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.admission.base_model import base_shapes, fingerprint, load_base_model
from adapters.errors import InvalidRequest
from tests.adapters.admission.tensors import SHAPES, write_base


@pytest.mark.parametrize("shards", [1, 3])
def test_the_shapes_are_those_of_the_linear_layers(tmp_path: Path, shards: int) -> None:
    assert base_shapes(write_base(tmp_path / "base", shards=shards)) == SHAPES


def test_weights_may_be_links_as_in_a_hub_cache(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    (base / "model.safetensors").rename(tmp_path / "blob")
    (base / "model.safetensors").symlink_to(tmp_path / "blob")
    assert base_shapes(base) == SHAPES


def test_a_base_model_knows_its_name_print_and_shapes(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    model = load_base_model(base, name="tiny", cache=tmp_path)
    assert (model.path, model.name, model.shapes) == (base, "tiny", SHAPES)
    assert model.fingerprint == fingerprint(base, cache=tmp_path)


def test_the_fingerprint_does_not_depend_on_the_place(tmp_path: Path) -> None:
    one, two = (write_base(tmp_path / name) for name in ("one", "two"))
    (two / "README.md").write_text("words that decide no answer")
    (two / "recipe.json").write_text("{}")
    assert fingerprint(one, cache=tmp_path) == fingerprint(two, cache=tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda base: (base / "config.json").write_text("{}"),
        lambda base: (base / "tokenizer.json").write_text("[]"),
        lambda base: (base / "chat_template.jinja").write_text("x"),
        lambda base: (base / "tokenizer_config.json").write_text("{}"),
        lambda base: (base / "spiece.model").write_text("x"),
        lambda base: (base / "sentencepiece.bpe.model").write_text("x"),
        lambda base: (base / "tekken.json").write_text("{}"),
        lambda base: (base / "model.safetensors").write_bytes(
            (base / "model.safetensors").read_bytes()[:-1] + b"\x01"
        ),
    ],
    ids=[
        "config",
        "tokenizer",
        "template",
        "tokenizer-config",
        "spiece",
        "sentencepiece",
        "tekken",
        "weights",
    ],
)
def test_whatever_decides_an_answer_changes_the_fingerprint(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    base = write_base(tmp_path / "base")
    before = fingerprint(base, cache=tmp_path)
    change(base)
    assert fingerprint(base, cache=tmp_path) != before


def test_large_files_are_read_again_only_when_they_changed(tmp_path: Path) -> None:
    base, cache = write_base(tmp_path / "base"), tmp_path / "cache"
    large = base / "model.safetensors"
    with large.open("r+b") as file:
        file.truncate(65 << 20)
    first = fingerprint(base, cache=cache)
    (note,) = (cache / "fingerprints").iterdir()
    assert fingerprint(base, cache=cache) == first
    kept = note.read_text()
    note.write_text("f" * 64)
    assert fingerprint(base, cache=cache) != first, "what is remembered is used"
    note.write_text("nonsense")
    assert fingerprint(base, cache=cache) == first
    assert note.read_text() == kept
    os.utime(large, (1.0, 1.0))
    assert fingerprint(base, cache=cache) == first
    assert len(list((cache / "fingerprints").iterdir())) == 2


def test_a_large_file_changed_behind_its_time_is_read_again(tmp_path: Path) -> None:
    base, cache = write_base(tmp_path / "base"), tmp_path / "cache"
    large = base / "model.safetensors"
    with large.open("r+b") as file:
        file.truncate(65 << 20)
    first, times = fingerprint(base, cache=cache), large.stat()
    with large.open("r+b") as file:
        file.seek(64 << 20)
        file.write(b"x")
    os.utime(large, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert fingerprint(base, cache=cache) != first


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    with (base / "model.safetensors").open("r+b") as file:
        file.truncate(65 << 20)
    (tmp_path / "no-folder").write_text("")
    assert fingerprint(base, cache=tmp_path / "no-folder") == fingerprint(base, cache=tmp_path)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, missing: str) -> None:
    base = write_base(tmp_path / "base")
    (base / missing).unlink()
    with pytest.raises(InvalidRequest):
        fingerprint(base, cache=tmp_path)
    with pytest.raises(InvalidRequest):
        load_base_model(tmp_path / "nowhere", name="x", cache=tmp_path)


@pytest.mark.parametrize(
    "index", ["", "{}", "[]", '{"weight_map": 3}', '{"weight_map": {"a": "../x.safetensors"}}',
              '{"weight_map": {"a": "lost.safetensors"}}']
)  # fmt: skip
def test_a_broken_index_is_refused(tmp_path: Path, index: str) -> None:
    base = write_base(tmp_path / "base", shards=2)
    (base / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InvalidRequest):
        base_shapes(base)


def test_damaged_weights_are_told_as_the_bases_fault(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    (base / "model.safetensors").write_bytes(json.dumps({}).encode())
    with pytest.raises(InvalidRequest, match="base model is damaged"):
        base_shapes(base)
