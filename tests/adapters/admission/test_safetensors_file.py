"""Safetensors headers, honest and otherwise."""

from __future__ import annotations

import json
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapters.admission.safetensors_file import largest_magnitude, parse_strict_json, read_header
from adapters.errors import Rejected
from tests.adapters.admission.tensors import encode

HONEST = {"a": np.ones((2, 3), "<f4"), "b": np.ones(5, "<f2")}


def refused(content: bytes) -> str:
    """Why a file of these bytes is refused; an empty text when it is not."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        path.write_bytes(content)
        try:
            read_header(path)
        except Rejected as error:
            return error.message
        return ""


def test_an_honest_header_is_read(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(encode(HONEST, header={"__metadata__": {"format": "pt"}}))
    tensors = read_header(path)
    assert {name: tensor.shape for name, tensor in tensors.items()} == {"a": (2, 3), "b": (5,)}
    assert largest_magnitude(path, tensors["b"]) == 1.0


def test_the_safetensors_library_agrees_about_an_honest_file() -> None:
    from safetensors.numpy import load, save

    theirs = save({name: np.asarray(array) for name, array in HONEST.items()})
    assert refused(theirs) == ""
    assert load(encode(HONEST)).keys() == HONEST.keys()


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]} | changes


@pytest.mark.parametrize(
    "wrong",
    [
        entry(dtype="F33"),
        entry(dtype=None),
        entry(shape=[2, -3]),
        entry(shape=[2.0, 3]),
        entry(shape=[True, 6]),
        entry(shape="23"),
        entry(shape=[2, 3] + [1] * 50),
        entry(shape=[2**62, 2**62]),
        entry(data_offsets=[0, 20]),
        entry(data_offsets=[24, 0]),
        entry(data_offsets=[4, 28]),
        entry(data_offsets=[0, 24, 24]),
        entry(data_offsets=[0]),
        entry(extra=1),
        {"dtype": "F32"},
        [],
        None,
    ],
)
def test_a_tensor_described_wrongly_is_refused(wrong: Any) -> None:
    assert refused(encode({"a": HONEST["a"]}, header={"a": wrong})) != ""


@pytest.mark.parametrize("name", ["a\x1b[31m", "a\ud800", "a\u202eb", "a\nb", "a\0b"], ids=ascii)
@pytest.mark.parametrize("wrong", [entry(dtype="F33"), entry(data_offsets=[0, 20]), None])
def test_a_name_that_could_deceive_who_reads_it_is_quoted(name: str, wrong: Any) -> None:
    message = refused(encode({"a": HONEST["a"]}, header={name: wrong}))
    assert message.isprintable()
    assert repr(name) in message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "too short"),
        (b"\x01\x00", "too short"),
        (struct.pack("<Q", 2**63) + b"{}", "claims a header"),
        (struct.pack("<Q", 2**64 - 1), "claims a header"),
        (struct.pack("<Q", 9) + b"{}", "ends within"),
        (struct.pack("<Q", 2) + b"[]", "not an object"),
        (struct.pack("<Q", 2) + b"{}" + b"hidden", "not as long"),
        (struct.pack("<Q", 2) + b"\xff\xff", "not proper JSON"),
        (struct.pack("<Q", 100_000) + b"[" * 100_000, "not proper JSON"),
        (struct.pack("<Q", 9000) + b"9" * 9000, "not proper JSON"),
        (encode(HONEST)[:-1], "not as long"),
        (encode(HONEST) + b"x", "not as long"),
        (encode(HONEST, header={"__metadata__": {"format": 1}}), "metadata"),
        (encode(HONEST, header={"__metadata__": []}), "metadata"),
        (encode(HONEST, header={"c": entry()}), "overlap"),
        (encode(HONEST, header={"a": entry(shape=[1], data_offsets=[0, 4])}), "overlap"),
    ],
)
def test_a_malformed_file_is_refused(content: bytes, reason: str) -> None:
    assert reason in refused(content)


def test_a_name_that_appears_twice_is_refused() -> None:
    one = json.dumps(entry())
    text = f'{{"a":{one},"a":{one}}}'.encode()
    assert "proper JSON" in refused(struct.pack("<Q", len(text)) + text + bytes(24))


def test_a_link_and_a_pipe_are_not_opened(tmp_path: Path) -> None:
    import os

    honest = tmp_path / "honest"
    honest.write_bytes(encode(HONEST))
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(honest)
    os.mkfifo(pipe)
    for path in (link, pipe, tmp_path, tmp_path / "nowhere"):
        with pytest.raises(Rejected):
            read_header(path)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    refused(content)
    refused(struct.pack("<Q", len(content)) + content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=12,
)
FIELDS = st.sampled_from(["dtype", "shape", "data_offsets", "x"])


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(max_size=5), JSON | st.dictionaries(FIELDS, JSON)))
@example({"a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}})
@example({"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}})
def test_any_header_is_read_or_refused(header: dict[str, Any]) -> None:
    refused(encode({}, header=header))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_one_flipped_byte_is_refused_or_harmless(position: int, value: int) -> None:
    content = bytearray(encode(HONEST))
    content[position % len(content)] = value
    refused(bytes(content))


@pytest.mark.parametrize("dtype", ["<f4", "<f2", "<u2"])
@pytest.mark.parametrize("value", [0.0, -0.0, 1.5, -2.25, 60_000.0, np.inf, -np.inf, np.nan, 2e-8])
def test_the_largest_magnitude_is_numpys(tmp_path: Path, dtype: str, value: float) -> None:
    numbers = np.array([0.0, value, 0.5, 0.0], "<f4")
    stored = (numbers.view("<u4") >> 16).astype("<u2") if dtype == "<u2" else numbers.astype(dtype)
    back = (stored.astype("<u4") << 16).view("<f4") if dtype == "<u2" else stored
    path = tmp_path / "w.safetensors"
    path.write_bytes(encode({"a": stored}))
    found = largest_magnitude(path, read_header(path)["a"])
    np.testing.assert_equal(found, float(np.abs(back).max()))


def test_a_large_tensor_is_read_to_its_end(tmp_path: Path) -> None:
    numbers = np.zeros((1 << 22) + 5, "<f2")
    numbers[-1] = -3.0
    path = tmp_path / "w.safetensors"
    path.write_bytes(encode({"a": numbers}))
    assert largest_magnitude(path, read_header(path)["a"]) == 3.0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"a":1,"a":2}', "twice"),
        (b"NaN", "NaN is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"\xff", "can't decode"),
        (b"{", "Expecting"),
        (b"", "Expecting"),
    ],
)
def test_json_that_others_read_differently_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_strict_json(text)
