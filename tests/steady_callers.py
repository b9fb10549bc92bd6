"""Callers that go on asking while what answers them dies and comes back, and what they meet."""

from __future__ import annotations

import secrets
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx2

CALLERS = 4
PAUSE_SECONDS = 0.2
"""Of a caller that was not answered: less than any wait that it is told."""
LONGEST_WAIT_SECONDS = 120

Ask = Callable[[str], httpx2.Response]
"""Sends one request with these words over a connection of its own, and repeats nothing."""


@contextmanager
def calling(ask: Ask) -> Iterator[Counter[str]]:
    """What callers meet meanwhile: a status, or how their connection failed.

    Each answer is checked as it comes; the first that is wrong is raised at the end.
    """
    met: Counter[str] = Counter()
    stop = threading.Event()
    here = secrets.token_hex(4)  # or what stood before two deaths would be taken for their cause

    def call(number: int) -> None:
        asked = 0
        while not stop.is_set():
            asked += 1
            found = _outcome(ask, f"question {asked} of {number}, {here}")
            met[found] += 1
            if found != "200":
                stop.wait(PAUSE_SECONDS)

    with ThreadPoolExecutor(CALLERS) as pool:
        callers = [pool.submit(call, number) for number in range(CALLERS)]
        try:
            yield met
        finally:
            stop.set()
        for caller in callers:
            caller.result()


def _outcome(ask: Ask, words: str) -> str:
    try:
        answer = ask(words)
    except httpx2.ConnectError as error:
        return "cut off" if _was_accepted(error) else "refused"
    except httpx2.HTTPError:
        return "cut off"
    if answer.status_code == 200:
        assert answer.json()["model"] == answer.headers["x-adapter-version"]
    elif answer.status_code == 503:
        assert answer.json()["error"]["code"], answer.text
        assert 0 < int(answer.headers["retry-after"]) <= LONGEST_WAIT_SECONDS
    return str(answer.status_code)


def _was_accepted(error: BaseException | None) -> bool:
    """Whether a death cut off a TLS handshake: to clients that is a failure to connect, too."""
    while error is not None:
        if isinstance(error, ssl.SSLError | ConnectionResetError):
            return True
        error = error.__cause__ or error.__context__
    return False


def check_nobody_was_refused(met: Counter[str]) -> None:
    """Some were answered and some told to wait; the rest were cut off by a death itself."""
    assert met["200"] > 0, met
    assert met["503"] > 0, met
    assert set(met) <= {"200", "503", "cut off"}, met
