"""Kill -9 while an upload comes: nothing of it is half there, and it goes on or is made anew."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.simulation.cluster import Cluster, cluster
from tests.training.world import wait_until

pytestmark = pytest.mark.slow

LINE = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
WHOLE = b"".join(LINE.replace(b'"a"', b'"%d"' % n) for n in range(40_000))
"""More than a form keeps in memory."""
KILLS = 3


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One replica that stands; its temporary files have a folder of their own."""
    folder = tmp_path_factory.mktemp("house")
    temporary = folder / "temporary"
    temporary.mkdir()
    with cluster(folder, replicas=1, aliases=("support",), TMPDIR=temporary) as house:
        house.replicas[0].wait_ready()
        yield house


@contextmanager
def sdk(house: Cluster) -> Iterator[Any]:
    """The real SDK as an admin; untyped, for it is told `x_unit`."""
    key = house.headers["Authorization"].removeprefix("Bearer ")
    client = openai.OpenAI(base_url=f"{house.replicas[0].url}/v1", api_key=key, max_retries=0)
    with client:
        yield client


def begin(client: Any, content: bytes) -> Any:
    return client.uploads.create(
        bytes=len(content),
        filename="train.jsonl",
        mime_type="text/jsonl",
        purpose="fine-tune",
        extra_body={"x_unit": "support"},
    )


def restart(house: Cluster) -> None:
    house.replicas[0].start()
    house.replicas[0].wait_ready()


def send_half(house: Cluster, path: str, field: str, fields: dict[str, str]) -> socket.socket:
    """A form with half of its file, and no more of it; the connection stays."""
    parts = "".join(
        f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    head = (
        f'{parts}--x\r\nContent-Disposition: form-data; name="{field}"; filename="a.jsonl"\r\n\r\n'
    )
    body = head.encode() + WHOLE
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: here",
        f"Authorization: {house.headers['Authorization']}",
        "Content-Type: multipart/form-data; boundary=x",
        f"Content-Length: {len(body)}",
    ]
    connection = socket.create_connection(("127.0.0.1", house.replicas[0].port))
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body[: len(body) // 2])
    return connection


def spooled(house: Cluster) -> bool:
    """Whether the process holds a file in its temporary folder: it has read beyond its memory."""
    folder = house.environment["TMPDIR"]
    found = Path(f"/proc/{house.replicas[0].pid}/fd").iterdir()
    for each in found:
        with suppress(FileNotFoundError):
            if str(each.readlink()).startswith(folder):
                return True
    return False


def stored(house: Cluster) -> dict[str, bytes]:
    """Digest → bytes of all files that stand in the store."""
    folder = house.settings.state_folder.artifacts / "files"
    return {path.name: path.read_bytes() for path in folder.glob("*/*")}


def test_a_part_that_was_cut_off_by_a_kill_is_not_there_and_the_upload_goes_on(
    house: Cluster,
) -> None:
    with sdk(house) as client:
        upload = begin(client, LINE + WHOLE)
        first = client.uploads.parts.create(upload.id, data=LINE)
        before = stored(house)
        with send_half(house, f"/v1/uploads/{upload.id}/parts", "data", {}):
            wait_until(lambda: spooled(house))
            house.replicas[0].kill()
        assert not list(Path(house.environment["TMPDIR"]).iterdir())
        restart(house)
        assert LINE in before.values()
        assert stored(house) == before
        assert client.uploads.parts.create(upload.id, data=LINE) == first
        second = client.uploads.parts.create(upload.id, data=WHOLE)
        done = client.uploads.complete(upload.id, part_ids=[first.id, second.id])
        assert client.files.content(done.file.id).read() == LINE + WHOLE


def test_a_file_that_was_cut_off_by_a_kill_is_not_there_and_can_be_sent_again(
    house: Cluster,
) -> None:
    fields = {"purpose": "fine-tune", "x_unit": "support"}
    with sdk(house) as client:
        known, before = list(client.files.list()), stored(house)
        with send_half(house, "/v1/files", "file", fields):
            wait_until(lambda: spooled(house))
            house.replicas[0].kill()
        assert not list(Path(house.environment["TMPDIR"]).iterdir())
        restart(house)
        assert list(client.files.list()) == known
        assert stored(house) == before
        file = client.files.create(
            file=("a.jsonl", WHOLE), purpose="fine-tune", extra_body={"x_unit": "support"}
        )
        assert client.files.content(file.id).read() == WHOLE


def test_whenever_it_is_killed_what_was_answered_is_there_and_the_rest_can_be_done_again(
    house: Cluster,
) -> None:
    """Kills fall where they fall: into parts, into their being put together, between them."""
    chance, (replica,) = random.Random(5), house.replicas
    with sdk(house) as client:
        for _ in range(KILLS):
            upload = begin(client, WHOLE + LINE)
            answered: list[str] = []
            caller = threading.Thread(target=_go_on, args=(client, upload.id, answered))
            caller.start()
            threading.Event().wait(chance.uniform(0.0, 0.5))
            replica.kill()
            caller.join()
            restart(house)
            _go_on(client, upload.id, answered)
            *parts, file = answered
            assert len(parts) == 2
            assert client.uploads.complete(upload.id, part_ids=parts).file.id == file
            assert client.files.content(file).read() == WHOLE + LINE
    assert all(hashlib.sha256(found).hexdigest() == name for name, found in stored(house).items())


def _go_on(client: Any, upload_id: str, answered: list[str]) -> None:
    """What is left of two parts and their file, as far as the service lives; their ids are added
    to `answered`.
    """
    with suppress(openai.APIConnectionError):
        for data in (WHOLE, LINE)[len(answered) :]:
            answered.append(client.uploads.parts.create(upload_id, data=data).id)
        if len(answered) == 2:
            done = client.uploads.complete(upload_id, part_ids=answered[:])
            answered.append(done.file.id)
