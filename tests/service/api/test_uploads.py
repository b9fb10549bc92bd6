"""Uploads in parts, and files that go by themselves, through the real openai SDK."""

from __future__ import annotations

import concurrent.futures
import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from adapters.domain.names import UploadId
from adapters.domain.principals import SYSTEM
from adapters.store import ArtifactKind
from service.api.upload_places import MAX_UPLOADS
from tests.service.world import World, running
from tests.simulation.engine import BASE

LINE = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
WHOLE = b"".join(LINE.replace(b'"a"', b'"%d"' % n) for n in range(3000))
HOUR = {"anchor": "created_at", "seconds": 3600}


def begin(client: Any, content: bytes = WHOLE, **more: Any) -> Any:
    asked = {"purpose": "fine-tune", "filename": "train.jsonl", "mime_type": "text/jsonl"}
    return client.uploads.create(bytes=len(content), **{**asked, **more})


def test_the_sdk_uploads_a_large_file_in_chunks_and_trains_on_it(
    world: World, tmp_path: Path
) -> None:
    client, path = world.client(), tmp_path / "train.jsonl"
    path.write_bytes(WHOLE)
    done = client.uploads.upload_file_chunked(
        file=path, mime_type="text/jsonl", purpose="fine-tune", part_size=100_000,
        md5=hashlib.md5(WHOLE, usedforsecurity=False).hexdigest(),
    )  # fmt: skip
    assert (done.status, done.bytes, done.file.bytes) == ("completed", len(WHOLE), len(WHOLE))
    assert (done.file.filename, done.file.status) == ("train.jsonl", "processed")
    assert client.files.content(done.file.id).read() == WHOLE
    job = client.fine_tuning.jobs.create(model=BASE, training_file=done.file.id)
    assert job.training_file == done.file.id


def test_parts_are_put_together_in_the_order_of_the_list_and_may_stand_in_it_twice(
    world: World,
) -> None:
    client = world.client()
    upload = begin(client, LINE * 3 + WHOLE)
    assert (upload.status, upload.file, upload.expires_at - upload.created_at) == (
        "pending", None, 3600,
    )  # fmt: skip
    last = client.uploads.parts.create(upload.id, data=WHOLE)
    line = client.uploads.parts.create(upload.id, data=LINE)
    assert (line.object, line.upload_id) == ("upload.part", upload.id)
    again = client.uploads.parts.create(upload.id, data=LINE)
    assert again == line, "a part that is sent again is the part that was there"
    order = [line.id, line.id, line.id, last.id]
    done = client.uploads.complete(upload.id, part_ids=order)
    assert client.files.content(done.file.id).read() == LINE * 3 + WHOLE
    assert client.uploads.complete(upload.id, part_ids=order) == done, "twice is once"
    assert [file.id for file in client.files.list()] == [done.file.id]


def test_a_file_whose_parts_do_not_fit_is_refused_and_can_still_be_completed(world: World) -> None:
    client = world.client()
    upload = begin(client, LINE * 2)
    part = client.uploads.parts.create(upload.id, data=LINE)

    def refusal(*part_ids: str, **more: str) -> tuple[str | None, str | None]:
        with pytest.raises(openai.APIStatusError) as raised:
            client.uploads.complete(upload.id, part_ids=list(part_ids), **more)
        return raised.value.code, raised.value.param

    assert refusal(part.id) == ("invalid_request", "part_ids")
    assert refusal(part.id, "part_other") == ("not_found", "part_ids")
    assert refusal(part.id, part.id, md5="0" * 32) == ("invalid_training_file", "md5")
    assert refusal(part.id, part.id, md5="x") == ("invalid_request", "md5")
    assert refusal() == ("invalid_request", "part_ids")
    assert client.uploads.complete(upload.id, part_ids=[part.id, part.id]).status == "completed"


def test_what_is_no_training_data_is_refused_when_it_is_complete(world: World) -> None:
    client = world.client()
    upload = begin(client, b"\0" * 100)
    part = client.uploads.parts.create(upload.id, data=b"\0" * 100)
    with pytest.raises(openai.BadRequestError, match="binary"):
        client.uploads.complete(upload.id, part_ids=[part.id])
    assert not list(client.files.list())


def test_a_cancelled_upload_takes_nothing_more(world: World) -> None:
    client = world.client()
    upload = begin(client)
    part = client.uploads.parts.create(upload.id, data=LINE)
    assert client.uploads.cancel(upload.id).status == "cancelled"
    assert client.uploads.cancel(upload.id).status == "cancelled"
    calls: list[Callable[[], object]] = [
        lambda: client.uploads.parts.create(upload.id, data=LINE),
        lambda: client.uploads.complete(upload.id, part_ids=[part.id]),
    ]
    for call in calls:
        with pytest.raises(openai.ConflictError) as raised:
            call()
        assert raised.value.code == "upload_ended"
    assert world.runtime.registry.collection.roots() == set()


@pytest.mark.parametrize(
    ("wrong", "param", "status"),
    [
        ({"purpose": "batch"}, "purpose", 400),
        ({"bytes": 0}, "bytes", 400),
        ({"bytes": True}, "bytes", 400),
        ({"bytes": 2**50}, "bytes", 400),
        ({"filename": ""}, "filename", 400),
        ({"mime_type": None}, "mime_type", 400),
        ({"expires_after": {"anchor": "created_at", "seconds": 60}}, "expires_after.seconds", 400),
        ({"expires_after": {"anchor": "today", "seconds": 3600}}, "expires_after.anchor", 400),
        ({"path": "/etc"}, "path", 400),
    ],
)
def test_an_upload_in_wrong_words_is_refused_by_name(
    world: World, wrong: dict[str, Any], param: str, status: int
) -> None:
    asked = {
        "purpose": "fine-tune", "filename": "a.jsonl", "bytes": 9, "mime_type": "text/jsonl",
    }  # fmt: skip
    answer = world.http("support").post("/v1/uploads", json=asked | wrong)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


def test_a_part_beyond_what_was_announced_and_an_empty_one_are_refused(world: World) -> None:
    client = world.client()
    upload = begin(client, LINE)
    with pytest.raises(openai.APIStatusError) as large:
        client.uploads.parts.create(upload.id, data=LINE * 2)
    assert (large.value.status_code, large.value.code) == (413, "request_too_large")
    with pytest.raises(openai.BadRequestError):
        client.uploads.parts.create(upload.id, data=b"")
    http = world.http("support")
    assert http.post(f"/v1/uploads/{upload.id}/parts", files={"file": LINE}).status_code == 400


def test_another_units_upload_is_not_there(world: World) -> None:
    theirs = world.client("hr")
    upload = begin(theirs, LINE)
    part = theirs.uploads.parts.create(upload.id, data=LINE)
    client = world.client()
    calls: list[Callable[[], object]] = [
        lambda: client.uploads.parts.create(upload.id, data=LINE),
        lambda: client.uploads.complete(upload.id, part_ids=[part.id]),
        lambda: client.uploads.cancel(upload.id),
    ]
    for call in calls:
        with pytest.raises(openai.NotFoundError):
            call()
    mine = begin(client, LINE)
    with pytest.raises(openai.NotFoundError):
        client.uploads.complete(mine.id, part_ids=[part.id])
    assert theirs.uploads.complete(upload.id, part_ids=[part.id]).status == "completed"


def test_an_admin_names_the_unit_of_an_upload(world: World) -> None:
    admin = world.client("admin")
    with pytest.raises(openai.BadRequestError):
        begin(admin, LINE)
    upload = begin(admin, LINE, extra_body={"x_unit": "hr"})
    part = admin.uploads.parts.create(upload.id, data=LINE)
    done = admin.uploads.complete(upload.id, part_ids=[part.id])
    assert [file.id for file in world.client("hr").files.list()] == [done.file.id]


def test_many_parts_at_once_need_no_retries(world: World) -> None:
    client = world.client()
    content = [LINE * (n + 1) for n in range(MAX_UPLOADS * 2)]
    upload = begin(client, b"".join(content))
    add = client.uploads.parts.create
    with concurrent.futures.ThreadPoolExecutor(len(content)) as pool:
        parts = list(pool.map(lambda data: add(upload.id, data=data), content))
    done = client.uploads.complete(upload.id, part_ids=[part.id for part in parts])
    assert client.files.content(done.file.id).read() == b"".join(content)


def test_an_upload_goes_on_after_the_service_was_started_anew(tmp_path: Path) -> None:
    """Nothing of it is in the process: neither order nor bytes."""
    with running(tmp_path / "state") as world:
        upload = begin(world.client(), LINE * 2)
        first = world.client().uploads.parts.create(upload.id, data=LINE)
    with running(tmp_path / "state") as world:
        client = world.client()
        assert client.uploads.parts.create(upload.id, data=LINE) == first
        done = client.uploads.complete(upload.id, part_ids=[first.id, first.id])
        assert client.files.content(done.file.id).read() == LINE * 2


def test_parts_whose_bytes_are_gone_are_sent_again(world: World) -> None:
    """As after a store that was restored from a backup."""
    client = world.client()
    upload = begin(client, LINE)
    part = client.uploads.parts.create(upload.id, data=LINE)
    (stored,) = world.runtime.registry.uploads.parts(UploadId(upload.id), [part.id], SYSTEM)
    world.runtime.store.delete(stored.digest, ArtifactKind.FILE)
    with pytest.raises(openai.NotFoundError):
        client.uploads.complete(upload.id, part_ids=[part.id])
    assert client.uploads.parts.create(upload.id, data=LINE) == part
    assert client.uploads.complete(upload.id, part_ids=[part.id]).status == "completed"


def test_a_full_disk_is_told_and_the_upload_goes_on_when_there_is_room(
    world: World, small_disk: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = small_disk(512)
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    client, large = world.client(), LINE * 40_000
    upload = begin(client, large)
    with pytest.raises(openai.InternalServerError) as full:
        client.uploads.parts.create(upload.id, data=large)
    assert (full.value.status_code, full.value.code) == (507, "storage_full")
    assert list(disk.iterdir()) == []
    monkeypatch.undo()
    part = client.uploads.parts.create(upload.id, data=large)
    assert client.uploads.complete(upload.id, part_ids=[part.id]).status == "completed"


# -- files that go by themselves


def test_a_file_says_when_it_goes(world: World) -> None:
    client = world.client()
    file = client.files.create(file=("a.jsonl", LINE * 12), purpose="fine-tune", expires_after=HOUR)
    assert file.expires_at == file.created_at + 3600
    assert client.files.retrieve(file.id).expires_at == file.expires_at
    assert client.files.create(file=("b.jsonl", LINE), purpose="fine-tune").expires_at is None
    upload = begin(client, LINE, expires_after=HOUR)
    part = client.uploads.parts.create(upload.id, data=LINE)
    done = client.uploads.complete(upload.id, part_ids=[part.id])
    assert done.file.expires_at == done.file.created_at + 3600


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"anchor": "created_at", "seconds": 3599}, "expires_after.seconds"),
        ({"anchor": "created_at", "seconds": 2_592_001}, "expires_after.seconds"),
        ({"anchor": "created_at", "seconds": "3600.5"}, "expires_after.seconds"),
        ({"anchor": "created_at"}, "expires_after.seconds"),
        ({"anchor": "last_active_at", "seconds": 3600}, "expires_after.anchor"),
        ({"seconds": 3600}, "expires_after.anchor"),
    ],
)
def test_a_lifetime_in_wrong_words_is_refused_by_name(
    world: World, wrong: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        world.client().files.create(
            file=("a.jsonl", LINE * 12), purpose="fine-tune", expires_after=wrong
        )
    assert raised.value.param == param
    assert not list(world.client().files.list())
