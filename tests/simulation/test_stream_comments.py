"""A client of the real SDK whose stream is long in coming, on the simulated engine."""

from __future__ import annotations

from pathlib import Path

import httpx2
import openai
import pytest

from service.gateway.stream_comments import COMMENT, SILENCE_SECONDS
from tests.simulation.cluster import ADMIN_KEY, cluster

ALIAS = "support"
ASKED = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_the_sdk_reads_a_stream_that_begins_with_comments(tmp_path: Path) -> None:
    step = SILENCE_SECONDS + 2.0
    with cluster(tmp_path, replicas=1, aliases=(ALIAS,), SIMULATED_STEP_SECONDS=step) as house:
        (replica,) = house.replicas
        replica.wait_ready()
        base = httpx2.get(f"{replica.url}/v1/status", headers=house.headers).json()["base_model"]
        body = {"model": base, "stream": True, **ASKED}
        url = f"{replica.url}/v1/chat/completions"
        with httpx2.stream("POST", url, json=body, headers=house.headers, timeout=120) as raw:
            first, *rest = raw.iter_bytes()
        assert raw.status_code == 200
        assert first == COMMENT
        assert b"data: [DONE]" in b"".join(rest)
        client = openai.OpenAI(base_url=f"{replica.url}/v1", api_key=ADMIN_KEY)
        chunks = list(client.chat.completions.create(**body))
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")
