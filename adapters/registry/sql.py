"""The registry in a database: the port's methods over SQLAlchemy Core.

Each method reads rows, asks `adapters.registry.rules` what becomes of them, and writes the answer,
all in one transaction. The methods live with their tables in the `sql_…` modules beside this one.
"""

from __future__ import annotations

from adapters.registry.database import Database
from adapters.registry.sql_files import SqlFiles
from adapters.registry.sql_jobs import SqlJobs
from adapters.registry.sql_keys import SqlKeys
from adapters.registry.sql_routes import SqlRoutes
from adapters.registry.sql_versions import SqlVersions


class SqlRegistry(SqlKeys, SqlFiles, SqlJobs, SqlVersions, SqlRoutes):
    """`Registry` for several threads and processes on one machine."""

    def __init__(self, url: str) -> None:
        """Opens the database and brings its schema up to date; see `Database`."""
        super().__init__(Database(url))

    def close(self) -> None:
        """Lets go of connections; further calls are undefined."""
        self._database.close()
