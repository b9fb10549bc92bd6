"""The keys of a state folder: made, brought, revoked, and taken over from an earlier build."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from adapters.domain.api_keys import Key, KeyHasher, hash_key, make_key
from adapters.domain.names import Unit
from adapters.domain.principals import SYSTEM, Role, Scope
from adapters.domain.units import Units, load_units
from adapters.durable_files import write_private
from adapters.errors import Conflict, InvalidRequest
from adapters.pepper import find_pepper
from adapters.registry import Registry
from adapters.registry.open import open_registry
from adapters.settings import Settings
from service.launch.bootstrap_keys import KeyKeeper, KeyReport, ensure_keys
from service.launch.key_files import read_kept
from tests.servers.postgres import PostgresServer
from tests.service.world import write_units

EVERYONE = ("admin", "trainer", "units.hr", "units.sales", "units.support")
FIRST, SECOND = "a-key-from-a-secret-1", "a-key-from-a-secret-2"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    write_units(tmp_path / "units")
    made = Settings(state=tmp_path / "state", units=tmp_path / "units")
    made.state_folder.create()
    return made


@pytest.fixture
def units(settings: Settings) -> Units:
    return load_units(settings.units)


@pytest.fixture
def registry(settings: Settings) -> Iterator[Registry]:
    opened = open_registry(settings.state_folder.database_url)
    yield opened
    opened.close()


def bringing(settings: Settings, **keys: str) -> Settings:
    """The same settings with a key for `admin` or `trainer`."""
    return settings.model_copy(
        update={f"{role}_key": SecretStr(secret) for role, secret in keys.items()}
    )


def secrets(settings: Settings) -> dict[str, str]:
    return dict(read_kept(settings.state_folder).secrets)


def record(settings: Settings, registry: Registry, secret: str) -> Key | None:
    """What the registry knows of a key."""
    return registry.keys.find(hash_key(secret, pepper=settings.state_folder.pepper()))


def is_valid(settings: Settings, registry: Registry, secret: str) -> bool:
    found = record(settings, registry, secret)
    return found is not None and found.revoked_at is None


def revoke(settings: Settings, registry: Registry, secret: str) -> None:
    found = record(settings, registry, secret)
    assert found is not None
    registry.keys.revoke(found.id, by=SYSTEM)


def everything_written(settings: Settings) -> bytes:
    """All bytes below the state folder."""
    files = [path for path in settings.state.rglob("*") if path.is_file()]
    return b"".join(path.read_bytes() for path in files)


def test_first_start_makes_a_key_for_everyone_and_keeps_them_private(
    settings: Settings, registry: Registry, units: Units
) -> None:
    report = ensure_keys(settings, registry, units)
    folder, kept = settings.state_folder, secrets(settings)
    assert report == KeyReport(made=EVERYONE, revoked=())
    assert tuple(sorted(kept)) == EVERYONE
    for path in (folder.keys, folder.trainer_key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(set(kept.values())) == 5
    stored = str(registry.keys.active())
    assert all(secret not in stored for secret in kept.values())
    assert all(is_valid(settings, registry, secret) for secret in kept.values())


def test_a_metrics_key_is_brought_reads_metrics_and_is_never_made(
    settings: Settings, registry: Registry, units: Units
) -> None:
    scraped = settings.model_copy(update={"metrics_key": SecretStr(FIRST)})
    assert ensure_keys(scraped, registry, units) == KeyReport(made=EVERYONE)
    found = record(settings, registry, FIRST)
    assert found is not None
    assert found.principal().scopes == frozenset({Scope.METRICS})
    assert not found.principal().sees_every_unit
    again = settings.model_copy(update={"metrics_key": SecretStr(SECOND)})
    assert ensure_keys(again, registry, units) == KeyReport()
    assert not is_valid(settings, registry, FIRST)
    assert is_valid(settings, registry, secrets(settings)["admin"])
    assert SECOND.encode() not in everything_written(settings)


def test_keys_of_an_earlier_build_are_found_by_the_hash_they_have(
    settings: Settings, registry: Registry, units: Units
) -> None:
    hasher = KeyHasher(settings.state_folder.pepper())
    _, new = make_key(Role.ADMIN, None, pepper=settings.state_folder.pepper(), secret=FIRST)
    before = replace(new, hash=hasher.hash_of_earlier_builds(FIRST), hash_version=1)
    registry.keys.bring(before)
    ensure_keys(bringing(settings, admin=FIRST), registry, units)
    assert [key.id for key in registry.keys.active() if key.role is Role.ADMIN] == [before.id]
    ensure_keys(bringing(settings, admin=SECOND), registry, units)
    (left,) = [key for key in registry.keys.active() if key.role is Role.ADMIN]
    assert (left.hash, left.hash_version) == (hasher.hash(SECOND), 2)


def test_the_trainers_key_stands_in_its_own_file_and_no_other_does(
    settings: Settings, registry: Registry, units: Units
) -> None:
    ensure_keys(settings, registry, units)
    folder, kept = settings.state_folder, secrets(settings)
    own = folder.trainer_key.read_text()
    assert own == kept["trainer"] + "\n"
    assert kept["trainer"] not in folder.keys.read_text()
    found = record(settings, registry, own.strip())
    assert found is not None
    assert (found.role, found.unit) == (Role.TRAINER, None)


def test_again_it_changes_nothing(settings: Settings, registry: Registry, units: Units) -> None:
    ensure_keys(settings, registry, units)
    before, revision = everything_written(settings), registry.routes.revision()
    assert ensure_keys(settings, registry, units) == KeyReport(made=(), revoked=())
    assert everything_written(settings) == before
    assert registry.routes.revision() == revision


def test_a_new_unit_gets_a_key_and_the_others_keep_theirs(
    settings: Settings, registry: Registry, units: Units
) -> None:
    ensure_keys(settings, registry, units)
    before = secrets(settings)
    (settings.units / "legal.yaml").write_text("unit: legal\naliases: [legal]\n")
    report = ensure_keys(settings, registry, load_units(settings.units))
    assert report.made == ("units.legal",)
    after = secrets(settings)
    assert after.pop("units.legal")
    assert after == before


def test_a_lost_registry_takes_the_kept_keys_again(
    settings: Settings, registry: Registry, units: Units, tmp_path: Path
) -> None:
    ensure_keys(settings, registry, units)
    before = secrets(settings)
    fresh = open_registry(f"sqlite:///{tmp_path / 'fresh.sqlite3'}")
    assert ensure_keys(settings, fresh, units).made == ()
    assert secrets(settings) == before
    assert {key.hash for key in fresh.keys.active()} == {key.hash for key in registry.keys.active()}
    fresh.close()


def test_processes_that_start_at_once_agree_on_the_keys(
    settings: Settings, registry: Registry, units: Units
) -> None:
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda _: ensure_keys(settings, registry, units), range(4)))
    assert sorted(report.made for report in reports) == [(), (), (), EVERYONE]
    assert len(registry.keys.active()) == 5
    assert all(is_valid(settings, registry, secret) for secret in secrets(settings).values())


# -- brought keys


def test_brought_keys_work_and_are_written_nowhere(
    settings: Settings, registry: Registry, units: Units
) -> None:
    ours = bringing(settings, admin=FIRST, trainer=SECOND)
    report = ensure_keys(ours, registry, units)
    assert report.made == ("units.hr", "units.sales", "units.support")
    roles = {secret: record(settings, registry, secret) for secret in (FIRST, SECOND)}
    assert {secret: found and found.role for secret, found in roles.items()} == {
        FIRST: Role.ADMIN,
        SECOND: Role.TRAINER,
    }
    written = everything_written(settings)
    assert FIRST.encode() not in written
    assert SECOND.encode() not in written
    assert not settings.state_folder.trainer_key.exists()


def test_a_key_may_be_brought_in_a_file_that_ends_with_a_line_break(
    settings: Settings, registry: Registry, units: Units, tmp_path: Path
) -> None:
    (tmp_path / "mounted").write_text(f"{FIRST}\n")
    ours = settings.model_copy(update={"trainer_key_file": tmp_path / "mounted"})
    ensure_keys(ours, registry, units)
    found = record(settings, registry, FIRST)
    assert found is not None
    assert found.role is Role.TRAINER


@pytest.mark.parametrize("role", ["admin", "trainer"])
def test_bringing_another_key_ends_the_one_brought_before_and_no_key_that_was_made(
    settings: Settings, registry: Registry, units: Units, role: str
) -> None:
    ensure_keys(settings, registry, units)
    made = secrets(settings)
    ensure_keys(bringing(settings, **{role: FIRST}), registry, units)
    assert is_valid(settings, registry, FIRST)
    ensure_keys(bringing(settings, **{role: SECOND}), registry, units)
    assert is_valid(settings, registry, SECOND)
    assert not is_valid(settings, registry, FIRST)
    assert secrets(settings) == made
    assert all(is_valid(settings, registry, secret) for secret in made.values())


def test_a_brought_key_has_an_end_where_it_is_asked_for_and_one_that_is_made_has_none(
    settings: Settings, registry: Registry, units: Units
) -> None:
    yearly = bringing(settings, admin=FIRST).model_copy(update={"brought_key_days": 365.0})
    assert ensure_keys(yearly, registry, units).expired == ()
    brought, made = record(yearly, registry, FIRST), secrets(yearly)["units.hr"]
    assert brought is not None
    assert brought.expires_at == brought.created_at + 365 * 86_400.0
    assert getattr(record(yearly, registry, made), "expires_at", 0) is None
    ensure_keys(yearly, registry, units)
    assert record(yearly, registry, FIRST) == brought, "again, it does not begin anew"


def test_a_brought_key_that_has_ended_is_told_of_and_followed_by_another(
    settings: Settings, registry: Registry, units: Units
) -> None:
    ended = bringing(settings, admin=FIRST).model_copy(update={"brought_key_days": 1e-9})
    ensure_keys(ended, registry, units)
    keeper = KeyKeeper(ended, registry)
    with capture_logs() as logs:
        keeper.ensure(units)
        keeper.ensure(units)
    told = [line for line in logs if line["event"] == "key_has_expired"]
    assert [(line["owner"], line["bring_in"]) for line in told] == [("admin", "WARDROBE_ADMIN_KEY")]
    assert ensure_keys(bringing(settings, admin=SECOND), registry, units).expired == ()
    assert is_valid(settings, registry, SECOND)


def test_without_the_brought_key_a_key_is_made(
    settings: Settings, registry: Registry, units: Units
) -> None:
    ensure_keys(bringing(settings, admin=FIRST), registry, units)
    assert ensure_keys(settings, registry, units).made == ("admin",)
    assert secrets(settings)["admin"] != FIRST


def test_the_trainer_is_never_given_a_key_of_somebody_else(
    settings: Settings, registry: Registry, units: Units
) -> None:
    with pytest.raises(InvalidRequest, match="a key of its own"):
        ensure_keys(bringing(settings, admin=FIRST, trainer=FIRST), registry, units)
    ensure_keys(settings, registry, units)
    for owner in ("admin", "units.support"):
        ours = bringing(settings, trainer=secrets(settings)[owner])
        with pytest.raises(Conflict, match="the key of trainer is already somebody else's"):
            ensure_keys(ours, registry, units)


# -- revoked keys


@pytest.mark.parametrize("owner", EVERYONE)
def test_a_revoked_key_is_refused_and_nothing_else_happens(
    settings: Settings, registry: Registry, units: Units, owner: str
) -> None:
    ensure_keys(settings, registry, units)
    before = secrets(settings)
    revoke(settings, registry, before[owner])
    assert ensure_keys(settings, registry, units) == KeyReport(made=(), revoked=(owner,))
    assert secrets(settings) == before
    assert [is_valid(settings, registry, before[name]) for name in EVERYONE] == [
        name != owner for name in EVERYONE
    ]


def test_a_revoked_key_that_is_brought_again_replaces_nothing(
    settings: Settings, registry: Registry, units: Units
) -> None:
    for brought in (FIRST, SECOND):
        ensure_keys(bringing(settings, admin=brought), registry, units)
    for _ in range(2):
        report = ensure_keys(bringing(settings, admin=FIRST), registry, units)
        assert report.revoked == ("admin",)
    assert not is_valid(settings, registry, FIRST)
    assert is_valid(settings, registry, SECOND)


@pytest.mark.parametrize("owner", ["trainer", "units.support"])
def test_a_new_key_is_made_when_the_revoked_one_is_taken_out_of_its_file(
    settings: Settings, registry: Registry, units: Units, owner: str
) -> None:
    ensure_keys(settings, registry, units)
    old = secrets(settings)[owner]
    revoke(settings, registry, old)
    if owner == "trainer":
        settings.state_folder.trainer_key.unlink()
    else:
        document = json.loads(settings.state_folder.keys.read_text())
        del document["units"]["support"]
        settings.state_folder.keys.write_text(json.dumps(document))
    assert ensure_keys(settings, registry, units) == KeyReport(made=(owner,), revoked=())
    assert secrets(settings)[owner] != old
    assert is_valid(settings, registry, secrets(settings)[owner])


def test_the_log_says_once_whose_key_is_revoked_and_never_a_key(
    settings: Settings, registry: Registry, units: Units
) -> None:
    keeper = KeyKeeper(settings, registry)
    with capture_logs() as logs:
        keeper.ensure(units)
        revoke(settings, registry, secrets(settings)["units.hr"])
        keeper.ensure(units)
        keeper.ensure(units)
    said = [(line["event"], line["owner"], line["kept_in"]) for line in logs]
    assert said == [
        *(
            ("key_made", owner, "trainer.key" if owner == "trainer" else "keys.json")
            for owner in EVERYONE
        ),
        ("key_is_revoked", "units.hr", "keys.json"),
    ]
    assert not [secret for secret in secrets(settings).values() if secret in str(logs)]


# -- replicas: separate state folders, one database

PEPPER = SecretStr("a pepper that is long enough for all")


@pytest.fixture
def shared(settings: Settings, postgres: PostgresServer) -> Iterator[Settings]:
    """Settings of one replica, with everything that replicas are brought."""
    database = postgres.new_database()
    folder = settings.state / "brought"
    folder.mkdir()
    for unit in ("support", "sales"):
        (folder / unit).write_text(f"the-key-of-{unit}-1\n")
    ours = {"database_url": SecretStr(database), "pepper": PEPPER, "unit_keys": folder}
    yield bringing(settings, admin=FIRST, trainer=SECOND).model_copy(update=ours)
    postgres.drop_database(database)


@pytest.fixture
def database(shared: Settings) -> Iterator[Registry]:
    with closing(open_registry(shared.registry_url)) as opened:
        yield opened


def replica(shared: Settings, folder: Path) -> Settings:
    """Another one, on a disk of its own."""
    made = shared.model_copy(update={"state": folder})
    made.state_folder.create()
    return made


def knows(shared: Settings, database: Registry, secret: str) -> Role | None:
    """Whose key it is for a replica; None where it refuses it."""
    found = database.keys.find(hash_key(secret, pepper=find_pepper(shared)))
    return found.role if found and found.revoked_at is None else None


def test_replicas_know_each_others_keys_and_write_none_of_them(
    shared: Settings, database: Registry, units: Units, tmp_path: Path
) -> None:
    second = replica(shared, tmp_path / "second")
    report = KeyReport(missing=("units.hr",))
    assert ensure_keys(shared, database, units) == report
    revision = database.routes.revision()
    assert ensure_keys(second, database, units) == report
    assert database.routes.revision() == revision
    assert len(database.keys.active()) == 4
    assert knows(second, database, FIRST) is Role.ADMIN
    assert knows(second, database, "the-key-of-sales-1") is Role.UNIT
    assert not [path for path in second.state.rglob("*") if path.is_file()]
    assert not shared.state_folder.keys.exists()


def test_a_key_brought_to_a_new_replica_ends_what_an_old_one_was_brought(
    shared: Settings, database: Registry, units: Units, tmp_path: Path
) -> None:
    ensure_keys(shared, database, units)
    assert shared.unit_keys is not None
    (shared.unit_keys / "support").write_text("the-key-of-support-2")
    fresh = bringing(replica(shared, tmp_path / "second"), admin="a-key-from-a-secret-3")
    ensure_keys(fresh, database, units)
    assert knows(shared, database, FIRST) is None
    assert knows(shared, database, "the-key-of-support-1") is None
    assert knows(shared, database, "the-key-of-support-2") is Role.UNIT
    # the old one starts once more before it is replaced
    assert "admin" in ensure_keys(shared, database, units).revoked
    assert knows(shared, database, "a-key-from-a-secret-3") is Role.ADMIN


def test_a_replica_with_another_pepper_is_refused_before_it_ends_the_others_keys(
    shared: Settings, database: Registry, units: Units
) -> None:
    ensure_keys(shared, database, units)
    odd = shared.model_copy(update={"pepper": SecretStr("another pepper that is long enough")})
    with pytest.raises(Conflict, match="made with another pepper"):
        ensure_keys(odd, database, units)
    assert len(database.keys.active()) == 4


def test_the_log_says_once_who_has_no_key_and_how_to_bring_one(
    shared: Settings, database: Registry, units: Units
) -> None:
    keyless = shared.model_copy(update={"admin_key": None, "unit_keys": None})
    keeper = KeyKeeper(keyless, database)
    with capture_logs() as logs:
        keeper.ensure(units)
        keeper.ensure(units)
    assert [(line["event"], line["owner"], line["bring_in"]) for line in logs] == [
        ("key_is_missing", "admin", "WARDROBE_ADMIN_KEY"),
        ("key_is_missing", "units.hr", "WARDROBE_UNIT_KEYS"),
        ("key_is_missing", "units.sales", "WARDROBE_UNIT_KEYS"),
        ("key_is_missing", "units.support", "WARDROBE_UNIT_KEYS"),
    ]


def test_one_machine_takes_a_brought_key_of_a_unit_and_makes_the_others(
    settings: Settings, registry: Registry, units: Units, tmp_path: Path
) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "hr").write_text(FIRST)
    ours = settings.model_copy(update={"unit_keys": tmp_path / "keys"})
    assert ensure_keys(ours, registry, units).made == tuple(
        owner for owner in EVERYONE if owner != "units.hr"
    )
    assert is_valid(settings, registry, FIRST)
    assert FIRST.encode() not in everything_written(settings)


# -- state folders of an earlier build, which kept all keys in one file


def earlier_build(settings: Settings, registry: Registry, *, admin: str) -> dict[str, str]:
    """Its `keys.json` and its registry; the answer is owner → key."""
    pepper = settings.state_folder.pepper()
    made = {
        "trainer": make_key(Role.TRAINER, None, pepper=pepper),
        "admin": make_key(Role.ADMIN, None, pepper=pepper, secret=admin),
        **{
            f"units.{unit}": make_key(Role.UNIT, Unit(unit), pepper=pepper)
            for unit in ("support", "sales", "hr")
        },
    }
    registry.keys.add([key for _, key in made.values()])
    kept = {owner: secret for owner, (secret, _) in made.items()}
    document = {
        "admin": kept["admin"],
        "trainer": kept["trainer"],
        "units": {name: kept[f"units.{name}"] for name in ("support", "sales", "hr")},
    }
    write_private(settings.state_folder.keys, json.dumps(document).encode())
    return kept


def test_the_trainer_of_an_earlier_build_keeps_its_key_and_gets_its_file(
    settings: Settings, registry: Registry, units: Units
) -> None:
    kept = earlier_build(settings, registry, admin="wr-admin-of-an-earlier-build")
    assert ensure_keys(settings, registry, units) == KeyReport(made=(), revoked=())
    assert secrets(settings) == kept
    assert settings.state_folder.trainer_key.read_text().strip() == kept["trainer"]
    assert "trainer" not in json.loads(settings.state_folder.keys.read_text())
    assert len(registry.keys.active()) == 5


def test_a_brought_key_that_an_earlier_build_wrote_down_is_taken_out_and_still_rotates(
    settings: Settings, registry: Registry, units: Units
) -> None:
    earlier_build(settings, registry, admin=FIRST)
    report = ensure_keys(bringing(settings, admin=FIRST), registry, units)
    assert report == KeyReport(made=(), revoked=())
    assert FIRST.encode() not in everything_written(settings)
    assert is_valid(settings, registry, FIRST)
    ensure_keys(bringing(settings, admin=SECOND), registry, units)
    assert not is_valid(settings, registry, FIRST)
    assert is_valid(settings, registry, SECOND)


def test_an_upgrade_that_rotates_at_once_ends_the_key_written_down(
    settings: Settings, registry: Registry, units: Units
) -> None:
    earlier_build(settings, registry, admin=FIRST)
    ensure_keys(bringing(settings, admin=SECOND), registry, units)
    assert FIRST.encode() not in everything_written(settings)
    assert not is_valid(settings, registry, FIRST)
