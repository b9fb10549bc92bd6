"""A client of the service: the `openai` SDK, and words for what it has none for.

Everything here goes over HTTP with a key, as any other program would: the command line, the demo
and the benchmarks see only what an application could see.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

import httpx2
import openai
from openai import HttpxBinaryResponseContent
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

from adapters.errors import WardrobeError
from adapters.tls_trust import trust

Json = dict[str, Any]

FINISHED = frozenset({"succeeded", "failed", "cancelled"})
PAGE = 100
_OPEN = frozenset({"loading", "flipped"})
_AS_IT_COMES = {"X-Stainless-Raw-Response": "stream"}
"""The SDK reads an answer whole unless a request says this, as its own streaming methods do."""
_ONE_WAIT = 60.0
"""Seconds of one request; a longer wait asks again."""


class NotWardrobe(WardrobeError, openai.OpenAIError):
    """What answers at this address is not Wardrobe.

    The SDK hands its own errors on as they are, and repeats no request because of one.
    """

    code = "not_wardrobe"


class Client:
    """The SDK's client as `openai`, and our endpoints as methods that give parsed JSON.

    Every method, and each of `openai`, raises `openai.APIError` and its kinds, and NotWardrobe.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        retries: int = 2,
        timeout: float = 120.0,
        logs: Path | None = None,
        authority: Path | None = None,
    ) -> None:
        """`logs` is where a service of this machine keeps the lines of its requests, `authority`
        whose certificates count beside those that the machine knows.

        Raises InvalidRequest for an authority that cannot be read.
        """
        self.logs = logs
        self.url = url.rstrip("/")
        self.openai = openai.OpenAI(
            base_url=f"{self.url}/v1",
            api_key=key,
            max_retries=retries,
            timeout=timeout,
            http_client=openai.DefaultHttpxClient(
                verify=trust(authority) if authority else True,
                event_hooks={"response": [self._check_ours]},
            ),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.openai.close()

    def status(self) -> Json:
        """Readiness, replicas, what is resident and what is being trained."""
        return self._get("/status")

    def base_model(self) -> str:
        """What the base model is called here."""
        return str(self.status()["base_model"])

    def units(self) -> list[Json]:
        """Every unit that the key sees."""
        return cast(list[Json], self._get("/units")["data"])

    def adapters(self) -> list[Json]:
        """Every alias with its route."""
        return cast(list[Json], self._get("/adapters")["data"])

    def adapter(self, alias: str) -> Json:
        return self._get(f"/adapters/{_segment(alias)}")

    def versions(self, alias: str) -> list[Json]:
        """All versions, newest first."""
        return list(self._pages(f"/adapters/{_segment(alias)}/versions"))

    def version(self, name: str) -> Json:
        """`support:8` → its gates, evidence and state."""
        alias, _, number = name.partition(":")
        return self._get(f"/adapters/{_segment(alias)}/versions/{_segment(number)}")

    def report(self, name: str) -> str:
        """`support:8` → its report, one HTML page."""
        alias, _, number = name.partition(":")
        path = f"/adapters/{_segment(alias)}/versions/{_segment(number)}/report"
        return self.openai.get(path, cast_to=HttpxBinaryResponseContent).text

    def evaluations(self, name: str) -> list[Json]:
        """Of `support` (its versions and the base) or of `support:8` alone, newest first."""
        alias, _, number = name.partition(":")
        subject = {"subject": name} if number else {}
        return list(self._pages(f"/adapters/{_segment(alias)}/evaluations", **subject))

    def rollouts(self, alias: str) -> list[Json]:
        """Every change of the alias's route, newest first."""
        return list(self._pages(f"/adapters/{_segment(alias)}/rollouts"))

    def change(
        self,
        alias: str,
        path: str,
        *,
        generation: int | None = None,
        wait: float = 60.0,
        **words: object,
    ) -> Json:
        """A command over a route, e.g. `canary/weight`: its rollout once that has ended, or as far
        as it is after `wait` seconds.

        Names the generation it saw: repeating the request, as the SDK may and waiting long does, is
        the same command.
        """
        seen = self._generation(alias) if generation is None else generation
        said = {name: word for name, word in words.items() if word is not None}
        until = time.monotonic() + wait
        while True:
            left = min(_ONE_WAIT, until - time.monotonic())
            waiting = {"timeout": left} if left > 0 else {"wait": False}
            rollout = self._post(
                f"/adapters/{_segment(alias)}/{path}",
                {"expected_generation": seen, **said, **waiting},
            )
            if rollout["state"] not in _OPEN or time.monotonic() >= until:
                return rollout

    def promote(self, alias: str, version: str, *, generation: int | None = None) -> Json:
        """Puts a version live."""
        return self.change(alias, "promote", generation=generation, version=version)

    def rollback(self, alias: str, *, generation: int | None = None) -> Json:
        """Back to the newest good version before the live one, or before the canary."""
        return self.change(alias, "rollback", generation=generation)

    def canary(self, alias: str) -> Json:
        """The newest canary, with what was counted of it."""
        return self._get(f"/adapters/{_segment(alias)}/canary")

    def shadow(self, alias: str) -> Json:
        """The shadow, with its comparisons."""
        return self._get(f"/adapters/{_segment(alias)}/shadow")

    def pin(self, alias: str, number: str, *, pinned: bool) -> Json:
        """Keeps a version resident, or no longer."""
        path = f"/adapters/{_segment(alias)}/versions/{_segment(number)}/pin"
        return self._post(path, {"pinned": pinned})

    def retire(self, alias: str, number: str, *, reason: str | None = None) -> Json:
        """Withdraws a version for good."""
        path = f"/adapters/{_segment(alias)}/versions/{_segment(number)}/retire"
        return self._post(path, _because(reason))

    def decide(self, name: str, word: str, *, reason: str | None = None) -> Json:
        """`approve` or `reject` of `support:8`."""
        path = f"{_version_path(name)}/{word}"
        return self._post(path, {} if reason is None else {"reason": reason})

    def withdraw_rejection(self, name: str, actor: str, *, reason: str | None = None) -> list[Json]:
        """Takes back what `actor` has said against `support:8`: what is left."""
        path = f"{_version_path(name)}/reject/withdraw"
        return cast(list[Json], self._post(path, {"actor": actor} | _because(reason))["data"])

    def import_version(self, alias: str, archive: BinaryIO, name: str) -> Json:
        """Uploads an archive with an adapter: the candidate that it became.

        Asked once: repeated, it would make another.
        """
        path = f"/adapters/{_segment(alias)}/versions"
        once = self.openai.with_options(max_retries=0, timeout=None)
        return cast(
            Json,
            once.post(
                path,
                cast_to=object,
                body={},
                files={"file": (name, archive)},
                options={"headers": {"Content-Type": "multipart/form-data"}},
            ),
        )

    def lineage(self, name: str) -> Json:
        """Where `support:8` comes from, and what became of it."""
        return self._get(f"{_version_path(name)}/lineage")

    def document(self, name: str, kind: str) -> str:
        """`card` or `bom` of `support:8`, as it is."""
        path = f"{_version_path(name)}/{kind}"
        return self.openai.get(path, cast_to=openai.HttpxBinaryResponseContent).text

    def archive(self, name: str, into: BinaryIO) -> None:
        """Writes the tar of `support:8` as it comes, whatever its size."""
        answer = self.openai.get(
            f"{_version_path(name)}/archive",
            cast_to=openai.APIResponse[bytes],
            options={"headers": _AS_IT_COMES},
        )
        try:
            for chunk in answer.iter_bytes():
                into.write(chunk)
        finally:
            answer.close()

    def replicas(self) -> list[Json]:
        """Every replica, silent ones too."""
        return cast(list[Json], self._get("/replicas")["data"])

    def retire_replica(self, replica: str, *, reason: str | None = None) -> Json:
        """Says that a silent replica is gone."""
        return self._post(f"/replicas/{_segment(replica)}/retire", _because(reason))

    def audit(self, *, limit: int, **which: str) -> list[Json]:
        """What was changed, newest first, at most `limit` entries."""
        return list(itertools.islice(self._pages("/audit", **which), limit))

    def usage(self, *, days: int, unit: str = "") -> list[Json]:
        """What was used on each of the last days, oldest first, told apart as far as it is."""
        day = 86_400
        until = (int(time.time()) // day + 1) * day
        query: Json = {
            "start_time": until - days * day,
            "end_time": until,
            "group_by": ["project_id", "model", "x_alias", "x_traffic"],
            "limit": 31,
            **({"project_ids": [unit]} if unit else {}),
        }
        buckets: list[Json] = []
        while True:
            page = self._get("/organization/usage/completions", **query)
            buckets += page["data"]
            if not page["has_more"]:
                return buckets
            query["page"] = page["next_page"]

    def _generation(self, alias: str) -> int:
        return int(self.adapter(alias)["route"]["generation"])

    def events(self, job_id: str) -> list[FineTuningJobEvent]:
        """All events of a job so far, oldest first."""
        pages = self.openai.fine_tuning.jobs.list_events(job_id, limit=PAGE)
        return list(pages)[::-1]

    def events_after(self, job_id: str, last: str | None) -> list[FineTuningJobEvent]:
        """What came after the event `last`, oldest first; None for all."""
        fresh: list[FineTuningJobEvent] = []
        for event in self.openai.fine_tuning.jobs.list_events(job_id, limit=PAGE):
            if event.id == last:
                break
            fresh.append(event)
        return fresh[::-1]

    def retry(self, job_id: str, recipe: Json) -> FineTuningJob:
        """Starts a job like one that has ended, with what `recipe` changes of its recipe."""
        path = f"/fine_tuning/jobs/{_segment(job_id)}/retry"
        return self.openai.post(path, cast_to=FineTuningJob, body={"recipe": recipe})

    def follow(self, job_id: str, *, every: float = 1.0) -> Iterator[FineTuningJobEvent]:
        """Events as they come, until the job has finished and all of them were given."""
        last = None
        while True:
            finished = self.openai.fine_tuning.jobs.retrieve(job_id).status in FINISHED
            for event in self.events_after(job_id, last):
                last = event.id
                yield event
            if finished:
                return
            time.sleep(every)

    def _get(self, path: str, **query: object) -> Json:
        said = self.openai.get(path, cast_to=object, options={"params": query})
        return self._checked(said)

    def _post(self, path: str, body: Json) -> Json:
        return self._checked(self.openai.post(path, cast_to=object, body=body))

    def _checked(self, said: object) -> Json:
        """Raises NotWardrobe for what is no object."""
        if not isinstance(said, dict):
            raise self._not_wardrobe()
        return said

    def _check_ours(self, response: httpx2.Response) -> None:
        """Raises NotWardrobe: any web page answers 200, and the SDK's types are not checked.

        Every answer of ours has an id. Other errors may be a proxy's, and are told as they are.
        """
        mine = "x-request-id" in response.headers
        if not mine and (response.is_success or response.status_code == HTTPStatus.NOT_FOUND):
            raise self._not_wardrobe()

    def _not_wardrobe(self) -> NotWardrobe:
        return NotWardrobe(f"what answers at {self.url} is not Wardrobe; say where that is")

    def _pages(self, path: str, **query: object) -> Iterator[Json]:
        after: dict[str, str] = {}
        while True:
            page = self._get(path, limit=PAGE, **query, **after)
            yield from page["data"]
            if not page.get("has_more") or not page["data"]:
                return
            after = {"after": page["data"][-1]["id"]}


def _version_path(name: str) -> str:
    alias, _, number = name.partition(":")
    return f"/adapters/{_segment(alias)}/versions/{_segment(number)}"


def _because(reason: str | None) -> Json:
    return {} if reason is None else {"reason": reason}


def _segment(text: str) -> str:
    """One segment of a path; what people type may hold anything."""
    from urllib.parse import quote

    return quote(text, safe=":") or "-"
