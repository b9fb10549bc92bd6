"""Lists what is known to be open in the installed vLLM, and what of ours guards against it.

An engine for the CPU may be behind the one for GPUs: the newest that exists is locked, and what it
lacks is said at every start instead of being discovered later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

WANTED = "0.33.0"
"""The first release without a known hole."""


@dataclass(frozen=True)
class Advisory:
    """A hole in vLLM, the release that closes it, and what keeps callers from it here."""

    id: str
    fixed: str
    door: str


ADVISORIES = (
    Advisory("CVE-2026-116180", "0.31.0", "`prompt_logprobs` and `echo` are refused"),
    Advisory("CVE-2026-114049", "0.31.0", "`allowed_token_ids` and `/invocations` are refused"),
    Advisory("CVE-2026-114053", "0.31.0", "`mm_processor_kwargs` and `/tokenize` are refused"),
    Advisory("PYSEC-2026-4344", "0.32.0", "`chat_template` is refused"),
    Advisory(
        "GHSA-5r3c-5x4v-8gjh",
        "0.33.0",
        "not known in detail; unlisted fields and routes are refused",
    ),
)
"""Newest last; what 0.30.0 has fixed is not listed, because nothing older is ever installed."""


def missing(installed: str) -> tuple[Advisory, ...]:
    """Advisories that this release does not close."""
    return tuple(one for one in ADVISORIES if _parts(installed) < _parts(one.fixed))


def notice(installed: str) -> str | None:
    """One honest line for the log where something is missing."""
    lacking = missing(installed)
    if not lacking:
        return None
    named = "; ".join(f"{one.id} (fixed in {one.fixed}; {one.door})" for one in lacking)
    return f"vllm {installed} is older than {WANTED} and lacks fixes: {named}"


def _parts(version: str) -> tuple[int, ...]:
    """`0.32.0.post2+cpu` → (0, 32, 0)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found.group().split(".")) if found else ()
