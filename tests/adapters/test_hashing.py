"""SHA-256: the same digest however the bytes come."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.hashing import RunningSha256, is_digest, sha256_bytes, sha256_file, sha256_rest

OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_bytes_files_and_streams_have_the_same_digest(tmp_path: Path) -> None:
    path, running = tmp_path / "abc", RunningSha256()
    path.write_bytes(b"".join(running.over([b"a", b"bc"])))
    with path.open("rb") as file:
        digests = {sha256_bytes(b"abc"), sha256_file(path), sha256_rest(file), running.digest}
    assert (digests, running.size) == ({OF_ABC}, 3)


@pytest.mark.parametrize("text", ["", OF_ABC[1:], OF_ABC.upper(), OF_ABC + "\n", "../" + OF_ABC])
def test_what_is_written_otherwise_is_no_digest(text: str) -> None:
    assert is_digest(OF_ABC)
    assert not is_digest(text)
