"""What is known of one request: names of ours, numbers and times. There is no room for content."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class RequestRecord:
    """Filled in while the request is answered, told once it has ended."""

    request_id: str
    method: str
    endpoint: str = ""
    """The route that was matched, such as `/v1/files/{file_id}`; empty where none was."""
    actor: str | None = None
    """The key's id."""
    unit: str | None = None
    alias: str | None = None
    version: str | None = None
    status: int = 0
    """0: nobody was answered."""
    code: str | None = None
    """Of the error."""
    outcome: str | None = None
    """How an inference request ended: `ok`, `client_error`, `engine_error`, `disconnected`."""
    first_byte: float | None = None
    """Seconds from the start."""
    seconds: float = 0.0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    traceparent: bytes | None = None
    """As the client sent it, for who traces; told to nobody else."""
    began_ns: int = field(default_factory=time.time_ns)
    _began: float = field(default_factory=time.perf_counter)

    def end(self, status: int, code: str | None) -> None:
        """The last byte is out, or the client is gone."""
        self.status, self.code = status, code
        self.seconds = time.perf_counter() - self._began
