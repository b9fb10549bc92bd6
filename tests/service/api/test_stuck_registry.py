"""A writer of the registry that is stuck: what only reads goes on, whoever asks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

from tests.service.world import World, running

MANY = 40
"""More commands than any pool has threads."""


@contextmanager
def stuck_writer(world: World) -> Iterator[None]:
    """Another process's transaction that does not end meanwhile."""
    path = world.settings.state_folder.root / "registry.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


def test_commands_behind_a_stuck_writer_keep_nobody_from_reading(tmp_path: Path) -> None:
    with running(tmp_path / "state") as world, ThreadPoolExecutor(MANY) as clients:
        support, sales, admin = (world.http(owner) for owner in ("support", "sales", "admin"))

        def cancel(number: int) -> int:
            path = f"/v1/fine_tuning/jobs/ftjob-{number}/cancel"
            return int(support.post(path, timeout=120.0).status_code)

        with stuck_writer(world):
            commands = [clients.submit(cancel, number) for number in range(MANY)]
            for client, path in (
                (sales, "/v1/files"),
                (sales, "/v1/fine_tuning/jobs"),
                (admin, "/v1/status"),
                (support, "/v1/files"),
            ):
                assert client.get(path, timeout=15.0).status_code == 200
            assert not any(command.done() for command in commands)
        assert {command.result() for command in commands} == {404}
