"""Archives that somebody uploads: what is taken out, and what makes the whole refused."""

from __future__ import annotations

import contextlib
import gzip
import io
import pickle
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.admission.archive import MAX_MEMBERS, MAX_ZIP_DIRECTORY, Unpacked, unpack
from adapters.errors import Rejected
from tests.adapters.admission.archives import Files, tarred, zipped

WANTED = {"adapter_config.json": 1000, "adapter_model.safetensors": 4000, "README.md": 100}
FILES = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"w" * 3000}


def packed_tar(files: Files) -> bytes:
    return tarred(files, mode="w:gz")


def packed_zip(files: Files) -> bytes:
    return zipped(files, packed=True)


every_kind = pytest.mark.parametrize("pack", [tarred, packed_tar, zipped, packed_zip])


def take(archive: bytes, into: Path) -> Unpacked:
    into.mkdir(exist_ok=True)
    return unpack(
        io.BytesIO(archive),
        into,
        config="adapter_config.json",
        needed="adapter_model.safetensors",
        wanted=WANTED,
    )


def refusal(archive: bytes, into: Path) -> Rejected:
    with pytest.raises(Rejected) as raised:
        take(archive, into)
    return raised.value


@every_kind
def test_the_wanted_files_come_out_as_they_are_and_nothing_else(
    tmp_path: Path, pack: Callable[[Files], bytes]
) -> None:
    files = FILES | {"README.md": b"# card", "tokenizer.json": b"{}", "runs/x.log": b"x"}
    taken = take(pack(files), tmp_path / "out")
    assert taken == Unpacked(names=frozenset(WANTED), others=2)
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert found == FILES | {"README.md": b"# card"}


@every_kind
def test_the_adapter_nearest_to_the_top_is_meant_not_that_of_a_checkpoint(
    tmp_path: Path, pack: Callable[[Files], bytes]
) -> None:
    old = {f"out/checkpoint-5/{name}": b"old" for name in FILES}
    take(pack({**old, **{f"out/{name}": content for name, content in FILES.items()}}), tmp_path)
    assert (tmp_path / "adapter_model.safetensors").read_bytes() == b"w" * 3000


@every_kind
def test_several_adapters_side_by_side_are_one_too_many(
    tmp_path: Path, pack: Callable[[Files], bytes]
) -> None:
    files = {f"{folder}/{name}": b"x" for folder in ("a", "b") for name in FILES}
    assert "several adapters" in refusal(pack(files), tmp_path).message


@every_kind
@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/x", "a\\..\\x", "C:/x", "/".join("abcdefghij")]
)
def test_a_path_that_leads_out_makes_the_whole_archive_refused(
    tmp_path: Path, pack: Callable[[Files], bytes], name: str
) -> None:
    assert refusal(pack(FILES | {name: b"x"}), tmp_path / "out").reason == "adapter_files"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
@pytest.mark.parametrize("name", ["adapter_model.safetensors", "other"])
def test_a_link_or_a_device_in_a_tar_makes_it_refused(
    tmp_path: Path, kind: bytes, name: str
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        config = tarfile.TarInfo("adapter_config.json")
        made.addfile(config)
        link = tarfile.TarInfo(name)
        link.type, link.linkname = kind, "/etc/passwd"
        made.addfile(link)
    assert "no plain file" in refusal(buffer.getvalue(), tmp_path).message


def test_a_link_in_a_zip_makes_it_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("adapter_config.json", b"{}")
        link = zipfile.ZipInfo("adapter_model.safetensors")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        made.writestr(link, b"/etc/passwd")
    assert "no plain file" in refusal(buffer.getvalue(), tmp_path).message


@every_kind
def test_a_file_is_read_up_to_its_bound_whatever_the_archive_says(
    tmp_path: Path, pack: Callable[[Files], bytes]
) -> None:
    big = FILES | {"adapter_model.safetensors": bytes(4001)}
    assert refusal(pack(big), tmp_path).reason == "adapter_too_large"


@every_kind
def test_a_pickle_is_named_and_not_opened(tmp_path: Path, pack: Callable[[Files], bytes]) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(tmp_path / "went off"),))

    files = {"adapter_config.json": b"{}", "adapter_model.bin": pickle.dumps(Bomb())}
    refused = refusal(pack(files), tmp_path / "out")
    assert "adapter_model.bin, a pickle" in refused.message
    assert not (tmp_path / "went off").exists()


@every_kind
def test_what_is_missing_is_named(tmp_path: Path, pack: Callable[[Files], bytes]) -> None:
    for files, said in (
        ({"x": b""}, "no adapter_config.json"),
        ({"adapter_config.json": b"{}"}, "adapter_model.safetensors is missing"),
    ):
        assert said in refusal(pack(files), tmp_path).message


def test_a_name_that_stands_twice_makes_it_refused(tmp_path: Path) -> None:
    twice = io.BytesIO()
    with tarfile.open(fileobj=twice, mode="w") as made:
        for name in ("adapter_config.json", "./adapter_config.json"):
            made.addfile(tarfile.TarInfo(name))
    assert "twice" in refusal(twice.getvalue(), tmp_path).message


def test_very_many_files_are_refused(tmp_path: Path) -> None:
    many = FILES | {f"x{number}": b"" for number in range(MAX_MEMBERS)}
    assert "more than" in refusal(tarred(many), tmp_path).message


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.XGLTYPE])
def test_very_many_folders_and_notes_fill_no_memory(tmp_path: Path, kind: bytes) -> None:
    """Each is kept by the standard library; packed, a million of them are nothing."""
    note = b"1048576 x=" + b"y" * (1 << 20)
    content = b"" if kind == tarfile.DIRTYPE else note[: (1 << 20) - 1] + b"\n"
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, len(content)
    header = info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)
    many = gzip.compress(header * (MAX_MEMBERS + 1 if not content else 20))
    assert refusal(many, tmp_path).reason == "adapter_files"


def test_a_small_packed_file_that_is_a_huge_one_is_not_unpacked(tmp_path: Path) -> None:
    """Of a tar in gzip, sizes are those of its headers: what lies between is passed over."""
    info = tarfile.TarInfo("other")
    info.size = 64 << 20
    bomb = gzip.compress(info.tobuf() + bytes(info.size) + tarred(FILES))
    assert len(bomb) < 200_000
    assert "larger than an adapter may be" in refusal(bomb, tmp_path).message


def test_a_header_that_claims_a_huge_note_is_not_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 1 << 33
    bomb = gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
    assert refusal(bomb, tmp_path).reason == "adapter_files"


def test_a_zip_that_claims_a_huge_directory_is_not_opened(tmp_path: Path) -> None:
    honest = zipped(FILES)
    at = honest.rfind(b"PK\x05\x06") + 12
    claimed = honest[:at] + struct.pack("<I", MAX_ZIP_DIRECTORY + 1) + honest[at + 4 :]
    assert "more than" in refusal(claimed, tmp_path).message
    # readers that look for another record find it bounded, too
    assert refusal(claimed + honest[honest.rfind(b"PK\x05\x06") :], tmp_path).message


def test_a_zip_with_a_password_is_refused(tmp_path: Path) -> None:
    archive = bytearray(zipped(FILES))
    for start in (archive.find(b"PK\x03\x04") + 6, archive.find(b"PK\x01\x02") + 8):
        archive[start] |= 1
    assert refusal(bytes(archive), tmp_path).reason == "adapter_files"


@settings(max_examples=60, deadline=None)
@given(
    pack=st.sampled_from([tarred, packed_tar, zipped, packed_zip]),
    cut=st.integers(min_value=0, max_value=4000),
    at=st.integers(min_value=0, max_value=4000),
    byte=st.integers(min_value=0, max_value=255),
)
def test_a_damaged_archive_is_refused_or_read_and_nothing_else_is_raised(
    tmp_path_factory: pytest.TempPathFactory,
    pack: Callable[[Files], bytes],
    cut: int,
    at: int,
    byte: int,
) -> None:
    archive = bytearray(pack(FILES))
    archive[at % len(archive)] = byte
    folder = tmp_path_factory.mktemp("out")
    with contextlib.suppress(Rejected):
        take(bytes(archive[: max(1, len(archive) - cut)]), folder)
    assert {path.name for path in folder.iterdir()} <= set(WANTED)
