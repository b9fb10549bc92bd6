"""Limits hold over the API processes of one engine, and over replicas."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from adapters.domain.principals import SYSTEM
from adapters.registry import Registry
from adapters.registry.open import open_registry
from adapters.state_folder import StateFolder
from tests.simulation.cluster import Cluster, cluster
from tests.simulation.replica import Replica

pytestmark = pytest.mark.slow
UNIT = "support"
CLIENTS = 8
STEP = 0.2
"""Seconds for a token, where that matters; the first one may come with a step that has begun."""
WORDS = 3
"""Tokens that the simulated base answers with."""
REQUEST = {
    "model": "wardrobe-base",
    "messages": [{"role": "user", "content": "hello there"}],
    "max_tokens": 4,
}


@contextmanager
def limited(
    folder: Path, limits: str, *, replicas: int, api_processes: int, **more: Any
) -> Iterator[Cluster]:
    with cluster(
        folder, replicas=replicas, aliases=(UNIT,), api_processes=api_processes, **more
    ) as house:
        for replica in house.replicas:
            replica.wait_ready()
        file = folder / "units" / f"{UNIT}.yaml"
        file.write_text(f"unit: {UNIT}\naliases: [{UNIT}]\nlimits: {{{limits}}}\n")
        time.sleep(3.0)  # within a second every process knows of it
        yield house


def key(house: Cluster) -> str:
    kept = StateFolder(Path(house.environment["WARDROBE_STATE"])).keys
    return str(json.loads(kept.read_text("utf-8"))["units"][UNIT])


class Crowd:
    """Clients that ask as fast as they are answered, each with a connection of its own."""

    def __init__(self, house: Cluster, replicas: Sequence[Replica]) -> None:
        self._headers = {"Authorization": f"Bearer {key(house)}"}
        self._replicas = replicas
        self._lock = threading.Lock()
        self.tokens = 0
        self.requests = 0
        self.last_at = 0.0
        self.retry_after: list[int] = []

    def ask(self, until: float) -> None:
        """Until nothing was let through for five seconds, or it is `until`."""
        self.last_at = time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as pool:
            for ended in [pool.submit(self._client, number, until) for number in range(CLIENTS)]:
                ended.result()

    def _client(self, number: int, until: float) -> None:
        url = self._replicas[number % len(self._replicas)].url
        with httpx2.Client(base_url=url, headers=self._headers, timeout=30) as client:
            while time.monotonic() < min(until, self.last_at + 5.0):
                answer = client.post("/v1/chat/completions", json=REQUEST)
                if answer.status_code == 200:
                    with self._lock:
                        self.tokens += answer.json()["usage"]["total_tokens"]
                        self.requests += 1
                        self.last_at = time.monotonic()
                else:
                    assert answer.status_code == 429, answer.text
                    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
                    self.retry_after.append(int(answer.headers["retry-after"]))
                    time.sleep(0.05)


@pytest.mark.parametrize(
    ("replicas", "api_processes", "asked"), [(1, 2, 1), (2, 1, 2), (2, 1, 1)],
    ids=["two processes", "two replicas", "one of two replicas"],
)  # fmt: skip
def test_clients_over_the_limit_are_admitted_what_it_says_within_a_hundredth(
    tmp_path: Path, replicas: int, api_processes: int, asked: int
) -> None:
    limit = 4000
    with limited(
        tmp_path, f"tokens_per_minute: {limit}", replicas=replicas, api_processes=api_processes
    ) as house:
        crowd = Crowd(house, house.replicas[:asked])
        crowd.ask(until=time.monotonic() + 55.0)
        assert 0.99 * limit <= crowd.tokens <= limit
        assert all(1 <= seconds <= 62 for seconds in crowd.retry_after)


def test_requests_are_counted_exactly_over_two_processes(tmp_path: Path) -> None:
    with limited(tmp_path, "requests_per_minute: 100", replicas=1, api_processes=2) as house:
        crowd = Crowd(house, house.replicas)
        crowd.ask(until=time.monotonic() + 55.0)
        assert crowd.requests == 100


class Streams:
    """Clients that are answered in streams; of each answer, when it was surely under way.

    From its first chunk, as it was read, to the earliest moment that its last can have been made.
    When that one was read says nothing: the client may be late, and the next answer under way.
    """

    def __init__(self, house: Cluster, replicas: Sequence[Replica]) -> None:
        self._headers = {"Authorization": f"Bearer {key(house)}"}
        self._replicas = replicas
        self._lock = threading.Lock()
        self._spans: list[tuple[float, float]] = []
        self.answered = dict.fromkeys((replica.url for replica in replicas), 0)

    def ask(self, *, each: int, at_once: int) -> None:
        """Until every replica has answered so many, and so many were under way at once."""
        with ThreadPoolExecutor(CLIENTS * len(self._replicas)) as pool:
            urls = [replica.url for replica in self._replicas for _ in range(CLIENTS)]
            for ended in [pool.submit(self._client, url, each, at_once) for url in urls]:
                ended.result()

    def _client(self, url: str, each: int, at_once: int) -> None:
        with httpx2.Client(base_url=url, headers=self._headers, timeout=30) as client:
            while min(self.answered.values()) < each or self.most_at_once < at_once:
                body = {**REQUEST, "stream": True}
                asked = time.monotonic()
                with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                    if answer.status_code == 200:
                        self._read(url, answer, lasts_until=asked + (WORDS - 1) * STEP)
                        continue
                    assert answer.status_code == 429, answer.read()
                    assert answer.headers["retry-after"] == "1"
                time.sleep(0.05)

    def _read(self, url: str, answer: httpx2.Response, *, lasts_until: float) -> None:
        began, *words = [time.monotonic() for line in answer.iter_lines() if "content" in line]
        assert len(words) == WORDS
        with self._lock:
            if began < lasts_until:
                self._spans.append((began, lasts_until))
            self.answered[url] += 1

    @property
    def most_at_once(self) -> int:
        """Answers that were under way at one moment."""
        with self._lock:
            spans = list(self._spans)
        moves = sorted(each for begin, end in spans for each in ((begin, 1), (end, -1)))
        under_way = most = 0
        for _, move in moves:
            under_way += move
            most = max(most, under_way)
        return most


@pytest.mark.parametrize("asked", [2, 1], ids=["two replicas", "one of two replicas"])
def test_no_more_are_answered_at_once_than_the_limit_says_over_all_replicas(
    tmp_path: Path, asked: int
) -> None:
    limit = 6
    with limited(
        tmp_path, f"max_concurrent_requests: {limit}", replicas=2, api_processes=1,
        SIMULATED_STEP_SECONDS=STEP,
    ) as house:  # fmt: skip
        streams = Streams(house, house.replicas[:asked])
        streams.ask(each=20, at_once=limit - 1)
        assert streams.most_at_once <= limit


class Caller:
    """One client that asks again as soon as it is answered, until it is not."""

    def __init__(self, house: Cluster) -> None:
        self._headers = {"Authorization": f"Bearer {key(house)}"}
        self._url = house.replicas[0].url
        self.answered = 0

    def ask(self) -> None:
        """Until the replica is gone."""
        with httpx2.Client(base_url=self._url, headers=self._headers, timeout=30) as client:
            while True:
                try:
                    answer = client.post("/v1/chat/completions", json=REQUEST)
                except httpx2.HTTPError:
                    return
                assert answer.status_code == 200, answer.text
                self.answered += 1


def counted(registry: Registry) -> int:
    """Requests of the unit that the registry knows of."""
    days = registry.usage.days(SYSTEM, since=0, until=10**6)
    return sum(day.used.requests for day in days if day.key.unit == UNIT)


def test_a_replica_killed_by_9_forgets_of_usage_what_came_since_it_told_last(
    tmp_path: Path,
) -> None:
    with (
        cluster(tmp_path, replicas=1, aliases=(UNIT,)) as house,
        closing(open_registry(house.settings.registry_url)) as registry,
        ThreadPoolExecutor(1) as pool,
    ):
        (replica,) = house.replicas
        replica.wait_ready()
        caller = Caller(house)
        asking = pool.submit(caller.ask)
        # of each look that found more than the one before: what was answered before that one began
        sure: list[int] = []
        known = before = 0
        while len(sure) < 3:
            assert not asking.done()
            answered, found = caller.answered, counted(registry)
            if found > known:
                sure.append(before)
                known = found
            before = answered
            time.sleep(0.02)
        replica.kill()
        asking.result()
        kept = counted(registry)
        # A batch begins once the one before it is known: what was answered before that one came is
        # in it. The last answer may not have been noted yet.
        assert sure[-2] - 1 <= kept <= caller.answered + 1
