"""A real S3 server (moto's) in this process, for tests of what is kept in object storage."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from typing import Any, Self

import boto3
from moto.server import ThreadedMotoServer

ACCESS_KEY, SECRET_KEY, REGION = "wardrobe-test-key", "wardrobe-test-secret", "us-east-1"


class S3Server:
    """An S3 server on a port of its own, from `start` to `stop` or inside `with`."""

    def __init__(self) -> None:
        # it writes a line for every request otherwise
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._client: Any = None

    def start(self) -> Self:
        """Listens when this returns."""
        self._server.start()
        return self

    def stop(self) -> None:
        self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        return int(self._server.get_host_and_port()[1])

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bucket(self) -> str:
        """A new bucket's name."""
        name = f"bucket-{secrets.token_hex(6)}"
        self.client().create_bucket(Bucket=name)
        return name

    def client(self) -> Any:
        """Another client than the product's, to look at a bucket and to harm it."""
        if self._client is None:
            self._client = boto3.client("s3", endpoint_url=self.endpoint, **_CREDENTIALS)
        return self._client

    def environment(self, endpoint: str | None = None) -> Mapping[str, str]:
        """What the product's processes need to reach it, through `endpoint` where given."""
        return {
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
        }


_CREDENTIALS: Mapping[str, str] = {
    "aws_access_key_id": ACCESS_KEY,
    "aws_secret_access_key": SECRET_KEY,
    "region_name": REGION,
}
