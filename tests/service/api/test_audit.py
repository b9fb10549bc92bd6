"""The audit log over HTTP: a unit reads what concerns it, the admin everything."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from sqlalchemy import text

from adapters.domain.audit import EMPTY
from adapters.domain.names import JobId
from adapters.registry.sql.database import Database
from tests.service.world import World
from tests.simulation.engine import BASE

EXAMPLES = b"".join(
    b'{"messages": [{"role": "user", "content": "q%d"},'
    b' {"role": "assistant", "content": "a"}]}\n' % at
    for at in range(40)
)
ROWS = b'{"messages": [{"role": "user", "content": "hi"}]}\n'


def listed(world: World, owner: str, **query: str) -> list[dict[str, Any]]:
    answer = world.http(owner).get("/v1/audit", params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


def test_a_unit_reads_what_was_done_to_its_things_and_nothing_else(world: World) -> None:
    file = world.client("support").files.create(file=("secret.jsonl", ROWS), purpose="fine-tune")
    world.client("sales").files.create(file=("x.jsonl", ROWS), purpose="fine-tune")
    (mine,) = listed(world, "support", subject=f"file/{file.id}")
    assert (mine["action"], mine["unit"], mine["role"]) == ("file.created", "support", "unit")
    assert mine["after"]["size_bytes"] == len(ROWS)
    assert "prev_hash" not in mine, "it is the hash of what may be another unit's"
    assert {entry["unit"] for entry in listed(world, "support")} == {"support"}
    assert listed(world, "support", unit="sales") == []
    units = {entry["unit"] for entry in listed(world, "admin", action="file.created")}
    assert units == {"support", "sales"}
    assert "prev_hash" in listed(world, "admin")[0]
    assert "secret.jsonl" not in str(listed(world, "admin"))


def test_why_something_was_done_is_kept_with_it(world: World) -> None:
    client = world.client("support")
    file = client.files.create(file=("a.jsonl", EXAMPLES), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    world.runtime.registry.jobs.accept(JobId(job.id), error=None)

    def because(reason: str) -> dict[str, str]:
        return {"reason": reason}

    client.fine_tuning.jobs.pause(job.id, extra_body=because("the machine is wanted"))
    client.fine_tuning.jobs.resume(job.id, extra_body=because("it is free again"))
    client.fine_tuning.jobs.cancel(job.id, extra_body=because("the wrong file"))
    client.files.delete(file.id, extra_body=because("asked to forget it"))
    assert {
        (entry["action"], entry["reason"])
        for subject in (f"job/{job.id}", f"file/{file.id}")
        for entry in listed(world, "support", subject=subject)
        if entry["reason"]
    } == {
        ("job.paused", "the machine is wanted"),
        ("job.resumed", "it is free again"),
        ("job.ended", "the wrong file"),
        ("file.deleted", "asked to forget it"),
    }
    for path in (f"/v1/fine_tuning/jobs/{job.id}/cancel", "/v1/replicas/gone/retire"):
        refused = world.http("admin").post(path, json={"reason": "two\nlines"})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "reason")


def test_the_log_is_read_in_pages(world: World) -> None:
    client = world.http("admin")
    first = client.get("/v1/audit?limit=2").json()
    assert (first["object"], len(first["data"]), first["has_more"]) == ("list", 2, True)
    after = client.get("/v1/audit", params={"limit": 2, "after": first["last_id"]}).json()
    assert int(after["first_id"]) == int(first["last_id"]) - 1
    wrong = client.get("/v1/audit?after=x")
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (404, "after")


def test_only_an_admin_asks_whether_the_log_is_intact(world: World) -> None:
    for path in ("/v1/audit/head", "/v1/audit/verify"):
        assert world.http("support").get(path).status_code == 403
        assert world.http("trainer").get(path).status_code == 403
        assert world.http(None).get(path).status_code == 401
    assert world.http("trainer").get("/v1/audit").status_code == 403


def test_a_log_that_was_tampered_with_is_told(world: World) -> None:
    admin = world.http("admin")
    head = admin.get("/v1/audit/head").json()
    assert head["anchor"] == f"{head['entries']}:{head['hash']}"
    sound = admin.get("/v1/audit/verify", params={"anchor": [head["anchor"], str(EMPTY)]}).json()
    assert sound == {
        "object": "audit.verdict",
        "intact": True,
        "damage": None,
        "entry": None,
        "verified": head,
    }
    with (
        closing(Database(world.settings.registry_url)) as database,
        database.write() as connection,
    ):
        connection.execute(text("DROP TRIGGER audit_refuses_update"))
        connection.execute(text("UPDATE audit SET actor = 'key_other' WHERE seq = 2"))
    broken = admin.get("/v1/audit/verify").json()
    assert (broken["intact"], broken["damage"], broken["entry"]) == (False, "altered", 2)
    assert broken["verified"]["entries"] == 1


def test_a_wrong_anchor_is_refused_without_being_repeated(world: World) -> None:
    answer = world.http("admin").get("/v1/audit/verify?anchor=1:zzzz")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "anchor"
    assert "zzzz" not in answer.text
