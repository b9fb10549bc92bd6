"""Replicas over one registry and one store, and what a test does to them from outside."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2

from adapters.admission.base_model import fingerprint
from adapters.domain.names import Unit
from adapters.domain.principals import SYSTEM
from adapters.registry.open import open_registry
from adapters.registry.ports import NewVersion
from adapters.settings import Settings
from adapters.signing_keys import find_signer, signature_of
from adapters.state_folder import StateFolder
from adapters.store.open import open_store
from tests.adapters.admission.tensors import write_base
from tests.empty_registry import new_state_folder
from tests.simulation.history import Flip
from tests.simulation.replica import Replica
from tests.simulation.weights import write_adapter

ADMIN_KEY = "simulated-admin-key-of-tests"
PEPPER = "simulated-pepper-of-all-replicas-of-tests"
PAGE = 100


@dataclass(kw_only=True)
class Cluster:
    """`texts` holds what each published version answers, by its name."""

    folder: Path
    environment: Mapping[str, str]
    replicas: list[Replica]
    texts: dict[str, str] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        """An admin's."""
        return {"Authorization": f"Bearer {ADMIN_KEY}"}

    @property
    def settings(self) -> Settings:
        """What every replica is configured with."""
        prefix = "WARDROBE_"
        words = {
            name.removeprefix(prefix).lower(): value
            for name, value in self.environment.items()
            if name.startswith(prefix)
        }
        return Settings(**words)  # type: ignore[arg-type]

    def publish(self, alias: str, *, words: int = 6) -> str:
        """A candidate whose every word names it; the answer is its name."""
        return self.publish_many(alias, 1, words=words)[0]

    def publish_many(self, alias: str, count: int, *, words: int = 6) -> list[str]:
        """Candidates, oldest first.

        Goes to registry and store themselves, as the trainer does: no replica is needed.
        """
        return self._publish(
            alias,
            count,
            text=lambda number: " ".join(f"{alias}:{number}/{word}" for word in range(words)),
        )

    def publish_text(self, alias: str, text: str) -> str:
        """A candidate that answers this; its name."""
        return self._publish(alias, 1, text=lambda _: text)[0]

    def _publish(self, alias: str, count: int, *, text: Callable[[int], str]) -> list[str]:
        settings = self.settings
        registry = open_registry(settings.registry_url)
        store = open_store(settings)
        base = fingerprint(Path(settings.base))
        newest = registry.versions.list(SYSTEM, adapter=alias, after=None, limit=1).items
        first = newest[0].number + 1 if newest else 1
        made = []
        for number in range(first, first + count):
            said = text(number)
            with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                digest = store.publish_adapter(write_adapter(Path(folder) / "adapter", said))
            new = NewVersion(
                adapter=alias,
                unit=Unit(alias),
                digest=digest,
                base_fingerprint=base,
                rank=8,
                size_bytes=100,
                evidence={},
            )
            new = replace(new, signature=signature_of(new, find_signer(settings)))
            version = registry.versions.publish(new, job_id=None, fence=None)
            self.texts[version.name] = said
            made.append(version.name)
        registry.close()
        return made

    def flips(self, alias: str) -> list[Flip]:
        """What the registry remembers of an alias, asked over HTTP of any replica."""
        return remembered(self._get, alias)

    def moving(self, aliases: Iterable[str]) -> list[str]:
        """Aliases of which a rollout has not ended yet; all of them while no replica answers."""
        try:
            newest = {alias: self._get(f"/v1/adapters/{alias}/rollouts") for alias in aliases}
        except httpx2.HTTPError:
            return list(aliases)
        open_ = ("loading", "flipped")
        return [a for a, page in newest.items() if any(r["state"] in open_ for r in page["data"])]

    def answers(self, alias: str) -> list[str | None]:
        """The version that each replica answers an alias with; None where it does not answer."""
        return [self._ask(replica, alias) for replica in self.replicas]

    def _ask(self, replica: Replica, alias: str) -> str | None:
        said = {"model": alias, "messages": [{"role": "user", "content": "hi"}]}
        url = f"{replica.url}/v1/chat/completions"
        try:
            answer = httpx2.post(url, json=said, headers=self.headers, timeout=30, verify=False)
        except httpx2.HTTPError:
            return None
        return answer.headers.get("x-adapter-version") if answer.status_code == 200 else None

    def live(self, alias: str) -> str | None:
        """The version that an alias serves, as the replica that answers first sees it."""
        stable: str | None = self._get(f"/v1/adapters/{alias}")["route"]["stable"]
        return stable

    def _get(self, path: str, **parameters: Any) -> dict[str, Any]:
        """Raises httpx2.HTTPError when no replica answers."""
        problem: Exception | None = None
        for replica in self.replicas:
            try:
                answer = httpx2.get(
                    f"{replica.url}{path}",
                    params=parameters,
                    headers=self.headers,
                    timeout=30,
                    verify=False,  # no certificates are read for what needs none: 30 ms each time
                )
                answer.raise_for_status()
            except httpx2.HTTPError as error:
                problem = error
                continue
            document: dict[str, Any] = answer.json()
            return document
        raise problem or RuntimeError("there is no replica")


def remembered(get: Callable[..., Mapping[str, Any]], alias: str) -> list[Flip]:
    """An alias's flips, oldest first; `get` asks for a path with a query and answers its JSON."""
    found: list[Flip] = []
    cursor: dict[str, str] = {}
    while True:
        listed = get(f"/v1/adapters/{alias}/rollouts", limit=PAGE, **cursor)
        found += [
            Flip(
                id=int(entry["id"]),
                alias=alias,
                action=entry["action"],
                version=entry["version"],
            )
            for entry in listed["data"]
            if entry["state"] == "complete"
        ]
        if not listed["has_more"]:
            return sorted(found, key=lambda flip: flip.id)
        cursor = {"after": listed["data"][-1]["id"]}


@contextmanager
def cluster(
    folder: Path,
    *,
    replicas: int,
    aliases: tuple[str, ...],
    api_processes: int = 1,
    apart: bool = False,
    **more: object,
) -> Iterator[Cluster]:
    """Started replicas, not yet ready; `more` are further settings by their variables' names.

    `apart`: each has a state folder of its own, as on a machine of its own.
    """
    units, base = folder / "units", folder / "base"
    units.mkdir(parents=True)
    for alias in aliases:
        (units / f"{alias}.yaml").write_text(f"unit: {alias}\naliases: {json.dumps([alias])}\n")
    write_base(base)
    environment = {
        "WARDROBE_STATE": str(folder / "state"),
        "WARDROBE_CACHE": str(folder / "cache"),
        "WARDROBE_UNITS": str(units),
        "WARDROBE_BASE": str(base),
        "WARDROBE_BASE_NAME": "wardrobe-base",
        "WARDROBE_ADMIN_KEY": ADMIN_KEY,
        "WARDROBE_PEPPER": PEPPER,
        "WARDROBE_LOG_LEVEL": "warning",
        "WARDROBE_DRAIN_SECONDS": "10",
        **{name: str(value) for name, value in more.items()},
    }
    names = [f"replica-{number}" for number in range(1, replicas + 1)]
    made = Cluster(
        folder=folder,
        environment=environment,
        replicas=[
            Replica(
                name=name,
                environment=_of_its_own(environment, folder / name) if apart else environment,
                logs=folder,
                api_processes=api_processes,
            )
            for name in names
        ],
    )
    for replica in made.replicas:
        StateFolder(Path(replica.environment["WARDROBE_STATE"])).create()
    new_state_folder(made.settings.state)
    try:
        for replica in made.replicas:
            replica.start()
        yield made
    finally:
        for replica in made.replicas:
            replica.stop()
        for state in (folder / "state", *(folder / name for name in names)):
            shutil.rmtree(state, ignore_errors=True)


def _of_its_own(environment: Mapping[str, str], state: Path) -> Mapping[str, str]:
    return {**environment, "WARDROBE_STATE": str(state)}
