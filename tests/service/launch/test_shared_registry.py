"""Two services on one database, each with a state folder of its own: one set of callers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.servers.postgres import PostgresServer
from tests.service.world import World, running

ADMIN, TRAINER, SUPPORT = "the-admins-brought-key", "the-trainers-brought-key", "the-key-of-support"


@pytest.fixture
def brought(postgres: PostgresServer, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What every replica is given."""
    database = postgres.new_database()
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "support").write_text(SUPPORT)
    yield {
        "database_url": database,
        "pepper": "a pepper that is long enough for all",
        "admin_key": ADMIN,
        "trainer_key": TRAINER,
        "unit_keys": tmp_path / "keys",
    }
    postgres.drop_database(database)


def status_of(world: World, path: str, key: str) -> int:
    """How the service answers a caller with this key."""
    headers = {"authorization": f"Bearer {key}"}
    return httpx2.get(f"{world.url}{path}", headers=headers, timeout=10).status_code


def soon(condition: Callable[[], bool]) -> bool:
    """Whether it holds within a few seconds."""
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_each_knows_the_others_callers_and_a_key_revoked_is_revoked_everywhere(
    brought: dict[str, Any], tmp_path: Path
) -> None:
    with (
        running(tmp_path / "one" / "state", **brought) as one,
        running(tmp_path / "two" / "state", **brought) as two,
    ):
        for world in (one, two):
            assert status_of(world, "/v1/models", SUPPORT) == 200
            assert status_of(world, "/v1/replicas", ADMIN) == 200
            assert status_of(world, "/v1/replicas", SUPPORT) == 403
            assert status_of(world, "/v1/models", "a-key-that-nobody-brought") == 401
        (support,) = [key for key in one.runtime.registry.keys.active() if key.unit == "support"]
        one.runtime.registry.keys.revoke(support.id, by=_admin(one))
        assert soon(lambda: status_of(two, "/v1/models", SUPPORT) == 401)
        assert status_of(two, "/v1/replicas", ADMIN) == 200


def test_a_replica_with_a_new_key_ends_the_old_one_on_all_of_them(
    brought: dict[str, Any], tmp_path: Path
) -> None:
    with running(tmp_path / "one" / "state", **brought) as one:
        assert status_of(one, "/v1/replicas", ADMIN) == 200
        newer = brought | {"admin_key": "the-admins-newer-key"}
        with running(tmp_path / "two" / "state", **newer) as two:
            assert status_of(two, "/v1/replicas", "the-admins-newer-key") == 200
            assert soon(lambda: status_of(one, "/v1/replicas", ADMIN) == 401)
            assert soon(lambda: status_of(one, "/v1/replicas", "the-admins-newer-key") == 200)


def _admin(world: World) -> Any:
    return world.runtime.authenticate(f"Bearer {ADMIN}".encode())
