"""Ends processes of a running stack the hard way, and watches it come back."""

from __future__ import annotations

import time
from typing import Any

import openai
import psutil
import pytest

from tests.e2e.stack import Stack, wait_for

HANGS_SECONDS = 1800.0
"""For what hangs: a slow machine may take its time."""


def long_stream(stack: Stack, words: str, *, model: str = "support") -> openai.Stream[Any]:
    """One that ends by its length only."""
    stream: openai.Stream[Any] = stack.client().chat.completions.create(
        model=model, messages=[{"role": "user", "content": words}],
        stream=True, max_tokens=900, extra_body={"ignore_eos": True},
    )  # fmt: skip
    return stream


def kill_under_a_stream(
    stack: Stack, victim: psutil.Process, words: str, *, model: str = "support"
) -> None:
    """Its reader must not take the end for a whole answer."""
    # the SDK builds its types at the first chunk of a process: on a busy machine that takes as long
    # as the whole answer, which would be over before the kill
    with long_stream(stack, "before", model=model) as before:
        next(iter(before))
    stream = long_stream(stack, words, model=model)
    next(iter(stream))
    victim.kill()
    with pytest.raises(openai.APIError):
        for _ in stream:
            pass


def seconds_until_back(stack: Stack) -> float:
    """Of a service that was killed just now; whoever probes it meanwhile leaves it alone."""
    began = time.monotonic()
    wait_for(lambda: not stack.ready(), seconds=HANGS_SECONDS, what="it is gone")
    assert stack.http(None).get("/livez").status_code == 200
    wait_for(stack.ready, seconds=HANGS_SECONDS, what="it is back")
    return time.monotonic() - began


def restarts(stack: Stack) -> float:
    """Of the engine, for whatever reason."""
    name = "wardrobe_engine_restarts_total"
    page = stack.http().get("/metrics").text
    lines = [line for line in page.splitlines() if line.startswith(name)]
    assert len(lines) == 4, "a series for every reason, from the start"
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
