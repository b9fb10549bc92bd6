"""Object stores on a test's bucket, and what the tests of stores share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.domain.names import Digest
from adapters.store.bucket import Bucket, Patience
from adapters.store.cache import DirectoryCache
from adapters.store.object_store import ObjectStore
from tests.servers.s3 import S3Server

QUICK = Patience(request_s=1.0, connect_s=1.0, retries=3, retry_s=2.0, backoff_s=0.01)
UNKNOWN = Digest("0" * 64)


@dataclass(frozen=True)
class Storage:
    """A bucket and a machine's folder of caches."""

    server: S3Server
    bucket: str
    caches: Path

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/a/prefix"

    def open(
        self,
        *,
        machine: str = "one",
        max_bytes: int | None = None,
        patience: Patience = QUICK,
    ) -> ObjectStore:
        """A store as one process on `machine` opens it."""
        folder = self.caches / machine
        return ObjectStore(
            Bucket(self.url, patience=patience),
            adapters=DirectoryCache(folder / "adapters", max_bytes=max_bytes),
            bases=DirectoryCache(folder / "bases", max_bytes=None),
            datasets=DirectoryCache(folder / "datasets", max_bytes=max_bytes),
            scratch=folder / "scratch",
        )

    def keys(self) -> list[str]:
        """What lies in the bucket, below the prefix."""
        found = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return sorted(item["Key"].removeprefix("a/prefix/") for item in found)

    def clear(self) -> None:
        """Empties the bucket."""
        found = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        if found:
            objects = [{"Key": item["Key"]} for item in found]
            self.client.delete_objects(Bucket=self.bucket, Delete={"Objects": objects})

    def read(self, key: str) -> bytes:
        found: bytes = self.client.get_object(Bucket=self.bucket, Key=f"a/prefix/{key}")[
            "Body"
        ].read()
        return found

    def write(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"a/prefix/{key}", Body=content)

    def remove(self, key: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=f"a/prefix/{key}")

    @property
    def client(self) -> Any:
        return self.server.client()
