"""The lot of a request: what is drawn by where its alias has a canary.

The same lot is answered by the same version for as long as the canary's weight does not fall below
it, in every process. A caller chooses what stays together: by a header of ours, by its user, or by
its conversation. What names nothing is drawn by itself. The lot goes nowhere but into a keyed hash.
"""

from __future__ import annotations

from starlette.types import Scope

from service.gateway.request_body import header

HEADER = b"x-wardrobe-sticky"
FIELDS = ("safety_identifier", "user", "prompt_cache_key")
"""OpenAI's, the user before the conversation: the cache's key is often one for an application."""
MAX_CHARACTERS = 512
"""What is longer is cut: it is no name."""


def lot_of(scope: Scope, said: object, request_id: str) -> str:
    """What a request is drawn by; `said` is its body as it came."""
    named = header(scope, HEADER)
    if named:
        return f"header\0{named[:MAX_CHARACTERS].decode('latin-1')}"
    if isinstance(said, dict):
        for field in FIELDS:
            value = said.get(field)
            if isinstance(value, str) and value:
                return f"{field}\0{value[:MAX_CHARACTERS]}"
    return f"request\0{request_id}"
