"""Two real engines on one PostgreSQL and one bucket; one replica is killed and comes back.

The small sister of `tests/simulation/test_promotions.py`: the same callers, operators and checker.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from adapters.domain.versions import Version
from adapters.settings import Settings
from benchmarks import stand
from service.launch.launcher import is_ready
from tests.e2e.drawn import publish_drawn
from tests.e2e.stack import ROOT, command, wait_for
from tests.servers.postgres import running_postgres
from tests.servers.s3 import S3Server
from tests.simulation.callers import Caller, Endpoint, Operator, World
from tests.simulation.checker import check, summary
from tests.simulation.cluster import remembered
from tests.simulation.harness import unexpected
from tests.simulation.history import History, Outcome

ALIAS = stand.ALIAS
ADMIN_KEY = "admin-key-of-two-real-replicas"
HEADERS = {"Authorization": f"Bearer {ADMIN_KEY}"}
BEFORE, AWAY, AFTER = 4, 2, 4
"""Commands while both are there, while one is away, and once it is back."""
COMMANDS = BEFORE + AWAY + AFTER
VERSIONS = COMMANDS + 2
START_SECONDS = 1800.0
"""A bound on hanging, not on speed: an engine that starts beside one that answers takes minutes."""
WAIT_SECONDS = 60.0
"""Of a command for its end."""
CALLERS = 4
PAUSE_SECONDS = 0.5
"""Of a caller between two answers, or errors: a replica that starts needs the processors, too."""
ASKED: Mapping[str, Any] = {"max_tokens": 8, "temperature": 0, "ignore_eos": True}

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]


@dataclass(kw_only=True)
class Served:
    """One `wardrobe serve` with a state folder of its own."""

    name: str
    environment: Mapping[str, str]
    port: int = field(default_factory=stand.free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return Path(self.environment["WARDROBE_STATE"]) / "serve.log"

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**self.environment, "WARDROBE_PORT": str(self.port)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command("serve"), cwd=ROOT, env=environment, stdout=log, stderr=log
            )

    def wait_ready(self) -> None:
        def answers() -> bool:
            assert self.process is None or self.process.poll() is None, f"{self.name} has ended"
            return is_ready(self.url)

        try:
            wait_for(answers, seconds=START_SECONDS, what=f"{self.name} is ready")
        except AssertionError as late:
            words = self.log.read_text(errors="replace")[-4000:]
            raise AssertionError(f"{late}\n{words}") from late

    def kill(self) -> None:
        """SIGKILL to the supervisor and all below it."""
        if self.process is None:
            return
        with suppress(psutil.NoSuchProcess):
            supervisor = psutil.Process(self.process.pid)
            for process in (supervisor, *supervisor.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait(30)
        self.process = None


@contextmanager
def two_replicas(patch: pytest.MonkeyPatch) -> Iterator[tuple[Settings, list[Served]]]:
    """Both ready. The settings are a publisher's."""
    with running_postgres() as postgres, S3Server() as s3:
        for name, value in s3.environment().items():
            patch.setenv(name, value)
        with stand.prepared_settings() as found:
            shared = {
                "WARDROBE_DATABASE_URL": postgres.new_database(),
                "WARDROBE_ARTIFACTS": f"s3://{s3.bucket()}/wardrobe",
                "WARDROBE_ADMIN_KEY": ADMIN_KEY,
                "WARDROBE_PEPPER": "pepper-of-two-real-replicas-of-one-registry",
            }
            patch.setenv("WARDROBE_DATABASE_URL", shared["WARDROBE_DATABASE_URL"])
            patch.setenv("WARDROBE_ARTIFACTS", shared["WARDROBE_ARTIFACTS"])
            publisher = Settings(state=found.state, base=found.base)
            replicas = [
                Served(
                    name=name,
                    environment={
                        **os.environ,
                        **found.environment(),
                        **shared,
                        "WARDROBE_STATE": str(found.state / name),
                        "WARDROBE_MAX_LORAS": "4",
                        "WARDROBE_MAX_CPU_LORAS": "8",
                        # each would bind its threads to the same core, and starve beside the other
                        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
                    },
                )
                for name in ("one", "two")
            ]
            try:
                for replica in replicas:
                    replica.start()
                for replica in replicas:
                    replica.wait_ready()
                yield publisher, replicas
            finally:
                for replica in replicas:
                    replica.kill()


class Unused:
    """Versions that were never live (`tests.simulation.callers.Versions`)."""

    def __init__(self, versions: Sequence[Version]) -> None:
        self._names = deque(version.name for version in versions)

    async def take(self, alias: str) -> str:
        del alias
        return self._names.popleft()

    def give_back(self, alias: str, version: str) -> None:
        del alias
        self._names.appendleft(version)


def word(text: str) -> str:
    """An answer as one word: the checker tells whose it is."""
    return sha256(text.encode()).hexdigest()[:16]


def get(replica: Served, path: str, **query: Any) -> dict[str, Any]:
    answer = httpx2.get(f"{replica.url}{path}", params=query, headers=HEADERS, timeout=60)
    document: dict[str, Any] = answer.raise_for_status().json()
    return document


def texts_of(replica: Served, model: str) -> set[str]:
    """What a model answers alone and as many at once as there are callers: rounding may differ."""
    alone = text_of(replica, model)
    with ThreadPoolExecutor(CALLERS) as pool:
        return {alone, *pool.map(lambda _: text_of(replica, model), range(CALLERS))}


def text_of(replica: Served, model: str) -> str:
    """What a model answers to the one question that all callers ask."""
    said = {"model": model, "messages": [{"role": "user", "content": "question 0"}], **ASKED}
    url = f"{replica.url}/v1/chat/completions"
    answer = httpx2.post(url, json=said, headers=HEADERS, timeout=120)
    assert answer.status_code == 200, f"{model}: {answer.text}"
    return word(answer.json()["choices"][0]["message"]["content"])


async def run(replicas: Sequence[Served], versions: Sequence[Version], history: History) -> float:
    """Commands under all callers; the second replica dies on the way and comes back.

    Returns when it was back, in the history's time.
    """
    stopped = asyncio.Event()
    world = World(
        endpoints=[Endpoint(name=replica.name, url=replica.url) for replica in replicas],
        headers=HEADERS,
        aliases=(ALIAS,),
        history=history,
        stopped=stopped,
        questions=1,
        more=ASKED,
    )

    def after(commands: int) -> Callable[[], bool]:
        carried_out = (Outcome.COMPLETE, Outcome.ACCEPTED)
        return lambda: sum(c.outcome in carried_out for c in history.commands) >= commands

    operator = Operator(world, seed=3, versions=Unused(versions), wait=WAIT_SECONDS)
    async with asyncio.TaskGroup() as others:
        await operator.first()
        for number in range(CALLERS):
            others.create_task(Caller(world, seed=number, pause=PAUSE_SECONDS).run())
        await operator.run(after(BEFORE))
        await asyncio.to_thread(replicas[1].kill)
        replicas[1].start()
        starting = others.create_task(asyncio.to_thread(replicas[1].wait_ready))
        await operator.run(after(BEFORE + AWAY))
        await starting
        back = time.monotonic()
        await operator.run(after(COMMANDS))
        stopped.set()
    return back


def told_apart(publisher: Settings, replica: Served) -> tuple[list[Version], dict[str, str]]:
    """Versions that are known by their answers, and those.

    Weak random weights may change none, and others a word with the size of the batch.
    """
    versions, texts = [], dict[str, str]()
    for strength in range(2, 2 + 6 * VERSIONS):
        version = publish_drawn(publisher, strength=float(strength))
        text, *others = texts_of(replica, version.name)
        if not others and text not in texts.values():
            versions.append(version)
            texts[version.name] = text
        if len(versions) == VERSIONS:
            return versions, texts
    raise AssertionError("too few of the drawn versions answer differently")


def test_two_real_replicas_never_answer_stale_or_mixed_while_one_dies_and_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with two_replicas(monkeypatch) as (publisher, replicas):
        history = History()
        versions, texts = told_apart(publisher, replicas[0])
        back = asyncio.run(run(replicas, versions, history))
        wait_for(lambda: not _moving(replicas[0]), seconds=600, what="every rollout has ended")
        history.flips += remembered(lambda path, **query: get(replicas[0], path, **query), ALIAS)
        history.reads[:] = [replace(read, text=word(read.text)) for read in history.reads]
        violations = check(history, texts)
        answered = [read for read in history.reads if not read.error]
        complete = [c for c in history.commands if c.outcome is Outcome.COMPLETE]
        print(f"{len(history.commands)} commands, {len(complete)} of them complete; "
              f"{len(answered)} answers of {len(history.reads)}; "
              f"violations: {summary(violations) or 'none'}")  # fmt: skip
        assert violations == []
        assert unexpected(history, faults=True) == {}
        assert {read.replica for read in answered if read.started > back} == {"one", "two"}
        assert len(complete) > COMMANDS // 2
        live = get(replicas[0], f"/v1/adapters/{ALIAS}")["route"]["stable"]
        assert [text_of(replica, ALIAS) for replica in replicas] == [texts[live]] * 2


def _moving(replica: Served) -> bool:
    listed = get(replica, f"/v1/adapters/{ALIAS}/rollouts")["data"]
    return any(rollout["state"] in ("loading", "flipped") for rollout in listed)
