"""Files and fine-tuning jobs through the real openai SDK."""

from __future__ import annotations

import concurrent.futures
import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from adapters.domain.jobs import JobError
from adapters.domain.names import Digest, FileId, JobId, Unit, new_file_id
from adapters.domain.principals import SYSTEM
from adapters.domain.recipes import Recipe
from adapters.errors import Condemned
from adapters.registry.ports import NewFile
from adapters.store import ArtifactKind
from service.api.job_requests import MAX_METADATA
from service.api.request import MAX_LIMIT
from service.api.upload_places import KEPT_FREE, MAX_OF_ONE_OWNER, MAX_UPLOADS
from tests.service.world import World, running, write_units
from tests.simulation.engine import BASE

LINE = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'


def upload(client: openai.OpenAI, content: bytes = LINE * 12, name: str = "train.jsonl") -> Any:
    return client.files.create(file=(name, content), purpose="fine-tune")


def test_a_file_goes_in_and_comes_out_as_it_was(world: World) -> None:
    client = world.client()
    made = upload(client)
    assert (made.filename, made.bytes, made.status) == ("train.jsonl", len(LINE * 12), "processed")
    assert client.files.content(made.id).read() == LINE * 12
    assert client.files.retrieve(made.id) == made
    assert client.files.wait_for_processing(made.id).status == "processed"
    assert [f.id for f in client.files.list()] == [made.id]
    assert client.files.delete(made.id).deleted is True
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(made.id)


def test_the_sdk_pages_through_many_files(world: World) -> None:
    client = world.client()
    made = [upload(client, name=f"{n}.jsonl").id for n in range(7)]
    assert [f.id for f in client.files.list(limit=3)] == made[::-1]
    assert [f.id for f in client.files.list(limit=3, order="asc")] == made


def test_files_can_be_deleted_while_they_are_listed(world: World) -> None:
    client = world.client()
    made = {upload(client, name=f"{n}.jsonl").id for n in range(5)}
    assert {client.files.delete(file.id).id for file in client.files.list(limit=2)} == made
    assert list(client.files.list()) == []


def test_a_page_of_files_may_be_as_long_as_openais(world: World) -> None:
    unit, digest = Unit("support"), Digest("a" * 64)
    for number in range(MAX_LIMIT + 1):
        world.runtime.registry.files.add(
            NewFile(
                id=new_file_id(),
                unit=unit,
                filename=f"{number}.jsonl",
                purpose="fine-tune",
                size_bytes=1,
                digest=digest,
            ),
            by=SYSTEM,
        )
    for query in ("", "?limit=10000"):
        listed = world.http("support").get(f"/v1/files{query}").json()
        assert (len(listed["data"]), listed["has_more"]) == (MAX_LIMIT + 1, False)


def test_deleting_a_file_leaves_its_bytes_to_the_collector(world: World) -> None:
    client = world.client()
    made = upload(client)
    digest = world.runtime.registry.files.get(FileId(made.id), SYSTEM).digest
    client.files.delete(made.id)
    world.runtime.store.open_file(digest).close()


class Collecting:
    """The port of files while the bytes of every first `add` are being collected."""

    def __init__(self, world: World) -> None:
        self._files, self._store, self.refused = (
            world.runtime.registry.files,
            world.runtime.store,
            0,
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    def add(self, new: Any, **by: Any) -> Any:
        if not self.refused:
            self.refused += 1
            self._store.delete(new.digest, ArtifactKind.FILE)
            raise Condemned("these bytes are being collected")
        return self._files.add(new, **by)


def test_an_upload_whose_equal_is_being_collected_is_there_in_the_end(world: World) -> None:
    collecting: Any = Collecting(world)
    world.runtime.registry = replace(world.runtime.registry, files=collecting)
    made = upload(world.client())
    assert collecting.refused == 1
    assert world.client().files.content(made.id).read() == LINE * 12


def test_same_bytes_twice_survive_the_deletion_of_one(world: World) -> None:
    client = world.client()
    first, second = upload(client), upload(client)
    client.files.delete(first.id)
    assert client.files.content(second.id).read() == LINE * 12


def test_another_units_file_is_not_there(world: World) -> None:
    made = upload(world.client("hr"))
    client = world.client("support")
    assert list(client.files.list()) == []
    for call in (client.files.retrieve, client.files.delete, client.files.content):
        with pytest.raises(openai.NotFoundError):
            call(made.id)
    with pytest.raises(openai.BadRequestError) as refused:
        client.fine_tuning.jobs.create(model=BASE, training_file=made.id)
    assert refused.value.param == "training_file"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"  \n ", "empty"),
        (b"PK\x03\x04\0\0", "binary"),
        (b"a,b,c\n1,2,3\n", "JSONL"),
        (b"[1, 2]\n", "JSONL"),
    ],
)
def test_what_cannot_be_training_data_is_refused_at_the_door(
    world: World, content: bytes, says: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=says) as refused:
        upload(world.client(), content)
    assert refused.value.param == "file"
    assert list(world.client().files.list()) == []


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/abs/x.jsonl", "a\\b\\c.jsonl", "\u202e\x07x.jsonl"]
)
def test_a_file_name_is_a_label_and_never_a_path(world: World, name: str) -> None:
    label = upload(world.client(), name=name).filename
    assert "/" not in label
    assert "\\" not in label
    assert label.isprintable()


def test_an_upload_into_a_full_disk_is_told_so_and_leaves_nothing(
    world: World, small_disk: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = small_disk(512)
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    with pytest.raises(openai.APIStatusError) as refused:
        upload(world.client(), LINE * 40_000)
    assert (refused.value.status_code, refused.value.code) == (507, "storage_full")
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert list(disk.iterdir()) == []
    assert upload(world.client()).status == "processed"


def slow_upload(world: World, owner: str) -> socket.socket:
    """An upload whose body does not come: its place is taken when the service asks for it."""
    raw = socket.create_connection(("127.0.0.1", world.settings.port), timeout=20)
    raw.sendall(
        f"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {world.key(owner)}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000\r\n"
        "Expect: 100-continue\r\n\r\n".encode()
    )
    assert b"100 Continue" in raw.recv(4096)
    return raw


def test_many_uploads_at_once_need_no_retries(world: World) -> None:
    client = world.client()
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        made = list(pool.map(lambda _: upload(client), range(12)))
    assert {file.status for file in made} == {"processed"}


def test_an_upload_waits_where_slow_ones_have_its_places_and_a_newcomers_does_not(
    world: World,
) -> None:
    slow = {"support": MAX_OF_ONE_OWNER, "sales": MAX_UPLOADS - MAX_OF_ONE_OWNER - KEPT_FREE}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        with contextlib.ExitStack() as stack:
            for owner, uploads in slow.items():
                for _ in range(uploads):
                    stack.enter_context(slow_upload(world, owner))
            waiting = [pool.submit(upload, world.client(owner)) for owner in slow]
            assert upload(world.client("hr")).status == "processed"
            assert not any(one.done() for one in waiting)
            assert not any(one.done() for one in waiting)
        assert {one.result(20).status for one in waiting} == {"processed"}


def test_uploads_that_are_slow_to_store_hold_nothing_else_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, go_on = threading.Semaphore(0), threading.Event()
    store = world.runtime.store.put_file

    def slowly(chunks: Any, *, max_bytes: int) -> Any:
        busy.release()
        go_on.wait(20)
        return store(chunks, max_bytes=max_bytes)

    monkeypatch.setattr(world.runtime.store, "put_file", slowly)
    owners = ["support"] * MAX_OF_ONE_OWNER + ["sales"] * MAX_OF_ONE_OWNER
    with concurrent.futures.ThreadPoolExecutor(MAX_UPLOADS) as pool:
        uploads = [pool.submit(upload, world.client(owner)) for owner in owners]
        assert busy.acquire(timeout=20)
        try:
            revision = world.runtime.table.revision
            world.publish("hr")
            started = time.monotonic()
            while world.runtime.table.revision == revision:
                assert time.monotonic() - started < 5
                time.sleep(0.01)
        finally:
            go_on.set()
        assert all(one.result().status == "processed" for one in uploads)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/files/a/b/c", 404, "not_found"),
        ("PUT", "/v1/files", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("POST", "/livez", 405, "method_not_allowed"),
        ("GET", "/v1/units/x", 404, "not_found"),
    ],
)
def test_the_frameworks_own_errors_come_in_our_envelope(
    world: World, method: str, path: str, status: int, code: str
) -> None:
    answer = world.http("support").request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=b"])
def test_a_malformed_multipart_body_is_a_400_in_our_envelope(world: World, kind: str) -> None:
    answer = world.http("support").post(
        "/v1/files", content=b"--b\r\nnonsense", headers={"Content-Type": kind}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_request"


def test_a_wrong_purpose_and_a_missing_file_are_named(world: World) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        world.client().files.create(file=("x.jsonl", LINE), purpose="assistants")
    assert refused.value.param == "purpose"
    answer = world.http("support").post("/v1/files", data={"purpose": "fine-tune"})
    assert answer.json()["error"]["param"] == "file"


@pytest.mark.parametrize("field", ["expires_after", "expires_after[hours]", "porpoise"])
def test_a_form_field_that_would_take_no_effect_is_refused_by_name(
    world: World, field: str
) -> None:
    answer = world.http("support").post(
        "/v1/files",
        data={"purpose": "fine-tune", field: "3600"},
        files={"file": ("x.jsonl", LINE)},
    )
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (field, "unknown_parameter")
    assert list(world.client().files.list()) == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models", "/v1/models/x", "/v1/files", "/v1/files/x", "/v1/files/x/content",
        "/v1/fine_tuning/jobs", "/v1/fine_tuning/jobs/x", "/v1/fine_tuning/jobs/x/events",
        "/v1/fine_tuning/jobs/x/checkpoints", "/v1/adapters", "/v1/adapters/support",
        "/v1/adapters/support/versions", "/v1/adapters/support/evaluations",
        "/v1/adapters/support/rollouts", "/v1/units", "/v1/status", "/v1/audit",
    ],
)  # fmt: skip
@pytest.mark.parametrize("query", ["limt=5", "before=x", "metadatas[k]=v", "limt"])
def test_a_query_parameter_that_nobody_reads_is_refused_by_name(
    world: World, path: str, query: str
) -> None:
    answer = world.http("support").get(f"{path}?{query}")
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (query.partition("=")[0], "unknown_parameter")


def test_whoever_probes_may_say_what_it_likes(world: World) -> None:
    assert httpx2.get(f"{world.url}/readyz?verbose").status_code == 200


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("step_metrics.csv", "text/csv; charset=utf-8"),
        ("loss_curve.png", "image/png"),
        ("data_card.md", "text/markdown; charset=utf-8"),
        ("events.out.tfevents", "application/octet-stream"),
    ],
)
def test_a_jobs_result_file_is_served_as_what_it_is_and_an_upload_by_its_name_is_not(
    world: World, name: str, kind: str
) -> None:
    digest, size = world.runtime.store.put_file([LINE], max_bytes=len(LINE))
    result = world.runtime.registry.files.add(
        NewFile(
            id=new_file_id(),
            unit=Unit("support"),
            filename=name,
            purpose="fine-tune-results",
            size_bytes=size,
            digest=digest,
        ),
        by=SYSTEM,
    )
    http = world.http("support")
    assert http.get(f"/v1/files/{result.id}/content").headers["content-type"] == kind
    uploaded = upload(world.client(), name=name)
    served = http.get(f"/v1/files/{uploaded.id}/content").headers["content-type"]
    assert served == "application/jsonl"


def test_files_of_openais_other_purposes_are_none(world: World) -> None:
    upload(world.client())
    assert list(world.client().files.list(purpose="assistants")) == []
    assert len(list(world.client().files.list(purpose="fine-tune", order="asc"))) == 1
    for query in ("purpose=SECRET", "order=up"):
        assert world.http("support").get(f"/v1/files?{query}").status_code == 400


def test_an_admin_names_the_unit_of_a_file(world: World) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        upload(world.client("admin"))
    assert refused.value.param == "x_unit"
    made = world.client("admin").files.create(
        file=("x.jsonl", LINE), purpose="fine-tune", extra_body={"x_unit": "sales"}
    )
    assert [f.id for f in world.client("sales").files.list()] == [made.id]


def test_a_job_is_created_listed_and_cancelled(world: World) -> None:
    client = world.client()
    file = upload(client)
    job = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=file.id,
        seed=5,
        metadata={"team": "a"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
    )
    assert (job.status, job.seed, job.hyperparameters.n_epochs) == ("validating_files", 5, 2)
    assert job.hyperparameters.batch_size == "auto"
    assert job.fine_tuned_model is None
    assert client.fine_tuning.jobs.retrieve(job.id).id == job.id
    assert [j.id for j in client.fine_tuning.jobs.list(metadata={"team": "a"})] == [job.id]
    assert list(client.fine_tuning.jobs.list(metadata={"team": "b"})) == []
    events = client.fine_tuning.jobs.list_events(job.id)
    assert [e.message for e in events] == ["Created fine-tuning job"]
    assert list(client.fine_tuning.jobs.checkpoints.list(job.id)) == []
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_a_job_learns_from_preferences_by_the_method_it_names(world: World, method: str) -> None:
    client = world.client()
    asked: Any = {"type": method, method: {"hyperparameters": {"beta": 0.4, "n_epochs": "auto"}}}
    job = client.fine_tuning.jobs.create(model=BASE, training_file=upload(client).id, method=asked)
    assert job.method is not None
    answer = job.method.to_dict()
    assert answer["type"] == method
    assert answer[method]["hyperparameters"]["beta"] == 0.4


@pytest.mark.parametrize(
    ("method", "param"),
    [
        ({"type": "reinforcement", "reinforcement": {"grader": {}}}, "method"),
        ({"type": "dpo", "dpo": {"hyperparameters": {"beta": 2.5}}}, "beta"),
        ({"type": "supervised", "supervised": {"hyperparameters": {"beta": 0.1}}}, "beta"),
    ],
)
def test_another_method_or_a_knob_that_is_not_its_own_is_refused_by_name(
    world: World, method: Any, param: str
) -> None:
    client = world.client()
    with pytest.raises(openai.BadRequestError) as refused:
        client.fine_tuning.jobs.create(model=BASE, training_file=upload(client).id, method=method)
    assert param in (refused.value.param or "")


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_a_method_without_a_loss_per_token_is_refused_where_the_unit_weighs_labels(
    tmp_path: Path, method: str
) -> None:
    write_units(tmp_path / "units", {"support": "data: {balance: reweight}\n"})
    with running(tmp_path / "state") as world:
        client = world.client()
        file, asked = upload(client).id, {"type": method}
        with pytest.raises(openai.BadRequestError) as refused:
            client.fine_tuning.jobs.create(model=BASE, training_file=file, method=asked)
        assert (refused.value.param, "reweight" in refused.value.message) == ("method", True)
        assert client.fine_tuning.jobs.create(model=BASE, training_file=file).id


def test_what_was_left_to_the_service_is_reported_once_it_is_decided(world: World) -> None:
    client, jobs = world.client(), world.runtime.registry.jobs
    job = client.fine_tuning.jobs.create(model=BASE, training_file=upload(client).id)
    assert job.hyperparameters.learning_rate_multiplier == "auto"
    jobs.accept(JobId(job.id), error=None)
    leased = jobs.claim(owner="trainer", lease_seconds=60.0)
    assert leased is not None
    assert leased.lease is not None
    recipe = Recipe(n_epochs=2, batch_size=8).model_dump(mode="json")
    jobs.resolve(leased.id, fence=leased.lease.fence, recipe=recipe)
    knobs = client.fine_tuning.jobs.retrieve(job.id).hyperparameters
    assert (knobs.n_epochs, knobs.batch_size, knobs.learning_rate_multiplier) == (2, 8, 1.0)


def test_a_list_of_jobs_takes_so_many_filters_and_no_more(world: World) -> None:
    http = world.http("support")
    query = [f"metadata[k{n}]=v" for n in range(MAX_METADATA + 1)]
    assert http.get(f"/v1/fine_tuning/jobs?{'&'.join(query[1:])}").status_code == 200
    answer = http.get(f"/v1/fine_tuning/jobs?{'&'.join(query)}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "metadata")


def test_jobs_are_listed_by_their_metadata_or_by_having_none(world: World) -> None:
    client = world.client()
    file = upload(client).id

    def job(**more: Any) -> str:
        made: str = client.fine_tuning.jobs.create(model=BASE, training_file=file, **more).id
        return made

    tagged, other = job(metadata={"team": "emea", "run": "1"}), job(metadata={"team": "apac"})
    plain, empty = job(), job(metadata={})

    def listed(**query: Any) -> list[str]:
        return [each.id for each in client.fine_tuning.jobs.list(limit=1, **query)]

    assert listed() == [empty, plain, other, tagged]
    assert listed(metadata={"team": "emea"}) == [tagged]
    assert listed(extra_query={"metadata": "null"}) == [empty, plain]
    for wrong in ("metadata=emea", "metadata=null&metadata[team]=emea", "metadata="):
        answer = world.http("support").get(f"/v1/fine_tuning/jobs?{wrong}")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "metadata"), wrong


def first_replica(world: World) -> Any:
    return world.http("admin").get("/v1/status").json()["replicas"][0]


def wait_until(true: Callable[[], bool], *, within: float = 20.0) -> None:
    until = time.monotonic() + within
    while not true():
        assert time.monotonic() < until, "it did not become true in time"
        time.sleep(0.1)


def test_status_tells_a_unit_of_itself_and_an_admin_of_all(world: World) -> None:
    theirs = world.client("hr")
    job = theirs.fine_tuning.jobs.create(model=BASE, training_file=upload(theirs).id)
    world.runtime.registry.jobs.accept(JobId(job.id), error=None)
    lease = world.runtime.leases.take(None)
    assert lease is not None
    world.runtime.meters.of("unit:hr").hold_requests(1)
    with lease:
        hr, support, admin = (
            world.http(owner).get("/v1/status").json() for owner in ("hr", "support", "admin")
        )
    assert [one["requests_in_flight"] for one in (hr, support, admin)] == [1, 0, 1]
    assert [one["jobs"]["queued"] for one in (hr, support, admin)] == [[job.id], [], [job.id]]
    assert [one["replica_count"] for one in (hr, support, admin)] == [1, 1, 1]
    assert not {"replicas", "revision"} & (hr.keys() | support.keys())
    wait_until(lambda: first_replica(world)["ready"] is True)  # it says so every two seconds
    assert world.http("trainer").get("/v1/status").status_code == 403


def test_events_come_newest_first_and_page(world: World) -> None:
    client = world.client()
    job = client.fine_tuning.jobs.create(model=BASE, training_file=upload(client).id)
    for n in range(5):
        world.runtime.registry.jobs.say(JobId(job.id), f"m{n}")
    messages = [e.message for e in client.fine_tuning.jobs.list_events(job.id, limit=2)]
    assert messages == ["m4", "m3", "m2", "m1", "m0", "Created fine-tuning job"]


def test_a_finished_job_can_be_neither_cancelled_nor_paused_nor_resumed(world: World) -> None:
    jobs = world.client().fine_tuning.jobs
    job = jobs.create(model=BASE, training_file=upload(world.client()).id)
    world.runtime.registry.jobs.accept(JobId(job.id), error=JobError(code="x", message="no"))
    for call in (jobs.cancel, jobs.pause, jobs.resume):
        with pytest.raises(openai.ConflictError) as refused:
            call(job.id)
        assert "failed" in refused.value.message


def test_cancelling_twice_is_cancelling_once(world: World) -> None:
    jobs = world.client().fine_tuning.jobs
    job = jobs.create(model=BASE, training_file=upload(world.client()).id)
    assert jobs.cancel(job.id) == jobs.cancel(job.id)
    for call in (jobs.pause, jobs.resume):
        with pytest.raises(openai.ConflictError) as refused:
            call(job.id)
        assert "cancelled" in refused.value.message


def test_a_queued_job_pauses_and_resumes(world: World) -> None:
    client = world.client()
    job = client.fine_tuning.jobs.create(model=BASE, training_file=upload(client).id)
    world.runtime.registry.jobs.accept(JobId(job.id), error=None)
    assert client.fine_tuning.jobs.pause(job.id).status == "paused"
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"


def test_an_idempotency_key_makes_one_job_of_two_calls(world: World) -> None:
    client = world.client()
    file = upload(client)
    jobs = [
        client.fine_tuning.jobs.create(
            model=BASE, training_file=file.id, extra_headers={"Idempotency-Key": "once"}
        ).id
        for _ in range(2)
    ]
    assert jobs[0] == jobs[1]
    assert len(list(client.fine_tuning.jobs.list())) == 1


def test_an_answer_to_a_repeated_command_says_that_it_is_one(world: World) -> None:
    client = world.client()
    file, create = upload(client), client.fine_tuning.jobs.with_raw_response.create
    once = {"Idempotency-Key": "once"}
    first, again, other = (
        create(model=BASE, training_file=file.id, extra_headers=headers)
        for headers in (once, once, {})
    )
    assert first.parse() == again.parse()
    assert [answer.headers.get("idempotency-replayed") for answer in (first, again, other)] == [
        None, "true", None,
    ]  # fmt: skip


def test_a_repeated_request_finds_its_job_although_the_file_is_gone(world: World) -> None:
    client = world.client()
    words = {"model": BASE, "training_file": upload(client).id}
    once = {"Idempotency-Key": "once"}
    first = client.fine_tuning.jobs.create(**words, extra_headers=once)
    client.fine_tuning.jobs.cancel(first.id)
    client.files.delete(words["training_file"])
    assert client.fine_tuning.jobs.create(**words, extra_headers=once).id == first.id


@pytest.mark.parametrize(
    "other", [{"seed": 7}, {"metadata": {"team": "b"}}, {"hyperparameters": {"n_epochs": 2}}]
)
def test_an_idempotency_key_with_other_words_is_a_409(world: World, other: dict[str, Any]) -> None:
    client = world.client()
    words = {"model": BASE, "training_file": upload(client).id}
    once = {"Idempotency-Key": "once"}
    client.fine_tuning.jobs.create(**words, extra_headers=once)
    for changed in (words | other, words | {"training_file": upload(client).id}):
        with pytest.raises(openai.ConflictError) as refused:
            client.fine_tuning.jobs.create(**changed, extra_headers=once)
        assert refused.value.code == "idempotency_key_reused"
        assert refused.value.response.headers["x-should-retry"] == "false"
    assert len(list(client.fine_tuning.jobs.list())) == 1


def test_one_idempotency_key_of_two_units_is_two_keys(world: World) -> None:
    made = []
    for owner in ("hr", "support"):
        client = world.client(owner)
        file = upload(client)
        job = client.fine_tuning.jobs.create(
            model=BASE, training_file=file.id, extra_headers={"Idempotency-Key": "once"}
        )
        made.append(job.id)
    assert made[0] != made[1]


def test_an_admin_starts_a_job_with_the_named_units_own_files_only(world: World) -> None:
    theirs = upload(world.client("hr"))
    admin = world.client("admin")
    with pytest.raises(openai.BadRequestError) as refused:
        admin.fine_tuning.jobs.create(
            model=BASE, training_file=theirs.id, extra_body={"x_unit": "support"}
        )
    assert (refused.value.param, refused.value.code) == ("training_file", "file_not_found")
    made = admin.fine_tuning.jobs.create(
        model=BASE, training_file=theirs.id, extra_body={"x_unit": "hr"}
    )
    assert [job.id for job in world.client("hr").fine_tuning.jobs.list()] == [made.id]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"training_file": "file-nope"}, "training_file"),
        ({"validation_file": "file-nope"}, "validation_file"),
        ({"suffix": "hr"}, "suffix"),
        ({"suffix": "../x"}, "suffix"),
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
        ({"seed": "5"}, "seed"),
        ({"hyperparameters": {"n_epochs": True}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"batch_size": 2.0}}, "hyperparameters.batch_size"),
        ({"metadata": {"k": 1}}, "metadata.k"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": "many"}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"unknown": 1}}, "hyperparameters.unknown"),
        ({"method": {"type": "reinforcement"}}, "method.type"),
        ({"metadata": {"k": "v" * 600}}, "metadata.k"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_job_in_wrong_words_is_a_400_that_names_the_field(
    world: World, change: dict[str, Any], param: str
) -> None:
    file = upload(world.client())
    body = {"model": BASE, "training_file": file.id} | change
    answer = world.http("support").post("/v1/fine_tuning/jobs", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


def test_training_on_an_unknown_model_is_a_404_that_names_the_base(world: World) -> None:
    with pytest.raises(openai.NotFoundError, match=BASE):
        world.client().fine_tuning.jobs.create(
            model="gpt-4o-mini", training_file=upload(world.client()).id
        )


def test_a_file_an_unfinished_job_needs_is_kept(world: World) -> None:
    client = world.client()
    file = upload(client)
    client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    with pytest.raises(openai.ConflictError) as refused:
        client.files.delete(file.id)
    assert refused.value.code == "file_in_use"


def test_another_units_job_is_not_there(world: World) -> None:
    theirs = world.client("hr")
    job = theirs.fine_tuning.jobs.create(model=BASE, training_file=upload(theirs).id)
    jobs = world.client("support").fine_tuning.jobs
    assert list(jobs.list()) == []
    for call in (
        jobs.retrieve,
        jobs.cancel,
        jobs.pause,
        jobs.resume,
        jobs.list_events,
        jobs.checkpoints.list,
    ):
        with pytest.raises(openai.NotFoundError):
            call(job.id)


def test_the_trainers_key_evaluates_and_nothing_else(world: World) -> None:
    version = world.publish("hr")
    client = world.client("trainer")
    hello = [{"role": "user", "content": "x"}]
    assert client.chat.completions.create(model=version.name, messages=hello).model == version.name
    for call in (client.files.list, client.fine_tuning.jobs.list):
        with pytest.raises(openai.PermissionDeniedError):
            call()
    for path in ("/v1/adapters/hr/promote", "/v1/adapters/nothing/promote"):
        refused = world.http("trainer").post(path, json={"version": 1})
        assert (refused.status_code, refused.json()["error"]["code"]) == (
            403, "insufficient_permissions",
        )  # fmt: skip


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=-1", "limit=x", "limit=99999999", "after=nope"]
)
def test_a_wrong_page_is_an_error_in_the_envelope(world: World, query: str) -> None:
    answer = world.http("support").get(f"/v1/files?{query}")
    assert answer.status_code in {400, 404}
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
