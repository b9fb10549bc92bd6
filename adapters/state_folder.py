"""The state folder: everything Wardrobe keeps on a machine, and who may use it.

registry.sqlite3   the registry
artifacts/         the artifact store, where it is a folder
artifact-cache/    adapters and datasets that came from object storage, where it is one
jobs/<id>/         scratch of jobs, from their validation until they end
pepper             32 random bytes under the key hashes   (0600)
keys.json          keys made for the admin and the units  (0600)
trainer.key        the trainer's key, where one was made  (0600)
signing.pem        the key that versions are signed with, where one was made (0600)
tmp/               temporary files and sockets of the running engine, removed at its end
engines/           what the API processes of a running engine share
vital-signs        what the supervisor and its engine tell each other
in-flight          digests of what the engine answers now, and of what it died of
logs/              what the supervised processes print
starting           there until the service meets its first caller
<name>.lock        one process of a kind at a time
"""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from adapters import file_locks
from adapters.durable_files import write_private
from adapters.errors import Conflict
from adapters.hashing import sha256_bytes

_QUOTED = str.maketrans({"%": "%25", "?": "%3F", "#": "%23"})
"""What means something else in an address than in a path."""
MAX_SOCKET_FOLDER = 107 - len("/") - 36
"""Bytes: the kernel takes 107 for a socket's path, and vLLM names its sockets by UUID."""


@dataclass(frozen=True)
class StateFolder:
    """Paths below one root; nothing else in the code joins them."""

    root: Path

    @property
    def registry(self) -> Path:
        return self.root / "registry.sqlite3"

    @property
    def database_url(self) -> str:
        return f"sqlite:///{str(self.registry).translate(_QUOTED)}"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def artifact_cache(self) -> Path:
        return self.root / "artifact-cache"

    @property
    def keys(self) -> Path:
        return self.root / "keys.json"

    @property
    def engines(self) -> Path:
        """What the API processes of each running engine share."""
        return self.root / "engines"

    @property
    def vital_signs(self) -> Path:
        """What the supervisor and its engine tell each other; it outlives an engine."""
        return self.root / "vital-signs"

    @property
    def in_flight(self) -> Path:
        """Digests of what the engine answers now, and of what engines died of."""
        return self.root / "in-flight"

    @property
    def trainer_key(self) -> Path:
        return self.root / "trainer.key"

    @property
    def signing_key(self) -> Path:
        return self.root / "signing.pem"

    @property
    def default_base(self) -> Path:
        """The name of the base that was taken when none was named."""
        return self.root / "default-base"

    @property
    def temporary(self) -> Path:
        """Where the engine's temporary files and sockets are, short enough for their addresses.

        Below a deep root it is a folder of the system's, named after the root.
        """
        folder = self.root / "tmp"
        if len(os.fsencode(folder)) <= MAX_SOCKET_FOLDER:
            return folder
        named = f"wardrobe-{sha256_bytes(os.fsencode(self.root))[:16]}"
        chosen = Path(tempfile.gettempdir(), named)
        if len(os.fsencode(chosen)) <= MAX_SOCKET_FOLDER:
            return chosen
        return Path("/tmp", named)  # noqa: S108 - made private, and only used where it is ours

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def starting(self) -> Path:
        return self.root / "starting"

    def job(self, job_id: str) -> Path:
        """Scratch of one job; a taken-over job finds its checkpoints here."""
        return self.root / "jobs" / job_id

    def create(self) -> StateFolder:
        """Makes the folder, or closes one that is there to all but its owner. Raises OSError."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        mode = stat.S_IMODE(self.root.stat().st_mode)
        if mode & 0o077:
            with suppress(PermissionError):  # another's, as a mounted volume is: theirs to decide
                self.root.chmod(mode & 0o700)
        for folder in (self.artifacts, self.logs, self.root / "jobs"):
            folder.mkdir(exist_ok=True, mode=0o700)
        return self

    def pepper(self) -> bytes:
        """The secret under the key hashes, made once; safe when two processes ask at once."""
        path = self.root / "pepper"
        if not path.exists():
            write_private(path, secrets.token_bytes(32), overwrite=False)
        return path.read_bytes()

    @contextmanager
    def lock(self, name: str, *, wait: bool = False) -> Iterator[None]:
        """Holds `<name>.lock` while the body runs. Raises Conflict when another process has it.

        With `wait` it is waited for. The kernel lets go of it when the process dies, however it
        dies.
        """
        path = self.root / f"{name}.lock"
        with path.open("a+") as file:
            if wait:
                file_locks.lock(file.fileno())
            elif not file_locks.try_lock(file.fileno()):
                file.seek(0)
                owner = file.read().strip() or "unknown"
                raise Conflict(
                    f"another `wardrobe {name}` (process {owner}) uses the state folder "
                    f"{self.root}; stop it first or choose another folder with --state",
                    code="state_in_use",
                )
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield
