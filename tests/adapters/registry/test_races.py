"""Commands that come at one moment, from registries of their own as from several processes.

Each race is run a few times; on PostgreSQL nothing but constraints and row locks decides it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from adapters.domain.api_keys import NewKey
from adapters.domain.files import StoredFile
from adapters.domain.jobs import Job, JobStatus, StopRequest
from adapters.domain.names import Alias, Digest, Unit, new_job_id
from adapters.domain.principals import SYSTEM, Principal, Role
from adapters.domain.routes import Rollout, RolloutState
from adapters.domain.versions import Version, VersionState
from adapters.errors import WardrobeError
from adapters.registry import Registry
from adapters.registry.open import open_registry
from adapters.registry.ports import NewJob, ProcessId
from tests.adapters.registry.backends import Backend
from tests.adapters.registry.values import (
    ADMIN,
    ALIAS,
    OWNER,
    SALES,
    SUPPORT,
    a_build,
    a_gate,
    a_job,
    a_key,
    a_process,
    added_file,
    beat,
    carry_out_all,
    fence_of,
    joined,
    load,
    observe,
    promote,
    promoted,
    published,
    queued,
    roll_back,
    running,
)

TIMES = 4

Command = Callable[[Registry], Any]


def advance(registry: Registry) -> Any:
    return registry.rollouts.advance()


def claim(registry: Registry) -> Any:
    return registry.jobs.claim(owner="t", lease_seconds=1e6)


def retire(registry: Registry, version: Version, alias: Alias) -> Any:
    return registry.versions.retire(version.id, OWNER, aliases=[alias])


def publish_of(registry: Registry, job: Job) -> Any:
    return registry.versions.publish(a_build(), job_id=job.id, fence=fence_of(job))


def cancel(registry: Registry, job: Job) -> Any:
    return registry.jobs.request_stop(job.id, StopRequest.CANCEL, OWNER)


def create(registry: Registry, words: NewJob, key: str | None) -> Any:
    return registry.jobs.create(words, OWNER, idempotency_key=key)


def add_key(registry: Registry, key: NewKey) -> Any:
    return registry.keys.add([key])


def delete(registry: Registry, file: StoredFile) -> Any:
    return registry.files.delete(file.id, OWNER)


def condemn(registry: Registry, digest: Digest) -> Any:
    return registry.collection.condemn({digest})


def leave(registry: Registry, process: ProcessId) -> Any:
    return registry.replicas.leave(process)


def observe_at(registry: Registry, process: ProcessId, revision: int) -> Any:
    return registry.replicas.observe(process, revision)


class Racers:
    """Registries that are asked at one moment."""

    def __init__(self, backend: Backend) -> None:
        self._opened = [open_registry(backend.url, journal=backend.journal) for _ in range(4)]

    def race(self, *commands: Command) -> list[Any]:
        """Answers, or the reasons of refusals, in the order of the commands."""
        start = threading.Barrier(len(commands))

        def run(registry: Registry, command: Command) -> Any:
            start.wait(10.0)
            try:
                return command(registry)
            except WardrobeError as error:
                return error.reason

        with ThreadPoolExecutor(len(commands)) as pool:
            return list(pool.map(run, self._opened, commands))

    def close(self) -> None:
        for registry in self._opened:
            registry.close()


@pytest.fixture
def racers(backend: Backend) -> Iterator[Racers]:
    """Four registries on one database, opened before the race."""
    with closing(Racers(backend)) as racing:
        yield racing


@pytest.fixture
def registry(backend: Backend) -> Iterator[Registry]:
    """One more, for what comes before and after; its time is the racers': the database's."""
    with closing(open_registry(backend.url, journal=backend.journal)) as opened:
        yield opened


def numbers(answers: Sequence[Any]) -> list[int]:
    return sorted(version.number for version in answers)


def test_the_first_versions_of_an_adapter_get_one_number_each(
    racers: Racers, registry: Registry
) -> None:
    for turn in range(TIMES):
        name = f"new-{turn}"
        answers = racers.race(*[partial(published, unit=SUPPORT, adapter=name)] * 4)
        assert numbers(answers) == [1, 2, 3, 4]


def test_a_new_adapters_name_goes_to_one_unit(racers: Racers, registry: Registry) -> None:
    def publish(unit: Unit, name: str) -> Command:
        return lambda r: published(r, unit, name).unit

    for turn in range(TIMES):
        name = f"new-{turn}"
        answers = racers.race(publish(SUPPORT, name), publish(SALES, name))
        assert "foreign_adapter" in answers
        assert len(set(answers)) == 2


def test_of_two_promotions_one_begins(racers: Racers, registry: Registry) -> None:
    """The first row of a route included: there is nothing yet that could be locked."""
    for turn in range(TIMES):
        alias = Alias(f"alias-{turn}")
        first, second = published(registry), published(registry)

        answers = racers.race(
            partial(promote, version=first, alias=alias),
            partial(promote, version=second, alias=alias),
        )
        assert sum(isinstance(answer, Rollout) for answer in answers) == 1
        assert "rollout_in_progress" in answers


def test_a_promotion_and_a_rollback_repeated_at_once_begin_once(
    racers: Racers, registry: Registry
) -> None:
    first, second = published(registry), published(registry)
    answers = racers.race(*[lambda r: promote(r, first, expected=0).id] * 4)
    assert len(set(answers)) == 1
    carry_out_all(registry, joined(registry))
    promoted(registry, second)
    answers = racers.race(*[lambda r: roll_back(r, 2).id] * 4)
    assert len(set(answers)) == 1
    assert isinstance(answers[0], int)


def test_everybody_advances_and_each_step_is_taken_once(racers: Racers, registry: Registry) -> None:
    process = joined(registry)
    for turn in range(TIMES):
        version = published(registry)
        promote(registry, version)
        load(registry, process, version)
        answers = racers.race(*[advance] * 4)
        moved = [rollout for answer in answers for rollout in answer]
        assert [rollout.state for rollout in moved] == [RolloutState.FLIPPED]
        assert registry.routes.route(ALIAS, SUPPORT).generation == turn + 1
        observe(registry, process)
        registry.rollouts.advance()


def test_aliases_that_share_a_version_agree_whether_it_is_live(
    racers: Racers, registry: Registry
) -> None:
    """Write skew: each of two flips sees the other alias still serving the shared version."""
    triage, process = Alias("triage"), joined(registry)
    for _ in range(TIMES):
        shared, mine, theirs = (published(registry) for _ in range(3))
        promoted(registry, shared)
        promoted(registry, shared, triage)
        load(registry, process, mine, theirs)
        promote(registry, mine)
        promote(registry, theirs, alias=triage)
        racers.race(*[advance] * 4)
        states = [registry.versions.by_id(v.id).state for v in (shared, mine, theirs)]
        assert states == [VersionState.RETIRED, VersionState.LIVE, VersionState.LIVE]
        observe(registry, process)
        registry.rollouts.advance()


def test_a_version_is_promoted_or_retired_and_never_both(
    racers: Racers, registry: Registry
) -> None:
    for turn in range(TIMES):
        version, alias = published(registry), Alias(f"alias-{turn}")
        begun, retired = racers.race(
            partial(promote, version=version, alias=alias),
            partial(retire, version=version, alias=alias),
        )
        assert (begun == "version_retired") != (retired == "version_live")


def test_a_job_is_claimed_once(racers: Racers, registry: Registry) -> None:
    for _ in range(TIMES):
        jobs = {queued(registry).id, queued(registry, SALES).id}
        answers = racers.race(*[claim] * 4)
        assert {job.id for job in answers if job is not None} == jobs
        assert sum(job is not None for job in answers) == 2


def test_claims_at_one_moment_take_turns(racers: Racers, registry: Registry) -> None:
    """What one claim has not committed, the next one counts all the same."""
    for _ in range(TIMES):
        for _ in range(4):
            queued(registry)
        queued(registry, SALES)
        answers = racers.race(*[claim] * 2)
        assert Counter(job.unit for job in answers) == {SUPPORT: 1, SALES: 1}
        for job in registry.jobs.in_status(JobStatus.QUEUED):
            registry.jobs.request_stop(job.id, StopRequest.CANCEL, SYSTEM)


def test_a_cancel_beside_a_publish_leaves_a_version_or_none_and_no_half(
    racers: Racers, registry: Registry
) -> None:
    for _ in range(TIMES):
        job = running(registry)
        version, stopped = racers.race(partial(publish_of, job=job), partial(cancel, job=job))
        assert stopped.stop_requested is StopRequest.CANCEL
        kept = registry.versions.of_job(job.id)
        assert kept == (None if version == "lease_lost" else version)


def test_a_cancel_beside_its_jobs_promotion_leaves_nothing_loading(
    racers: Racers, registry: Registry
) -> None:
    for _ in range(TIMES):
        job = running(registry)
        fence = fence_of(job)
        version = registry.versions.publish(a_build(), job_id=job.id, fence=fence)
        registry.versions.record_gates(version.id, [a_gate()], fence=fence, evidence={})
        trainer = Principal(id=job.id, role=Role.UNIT, unit=SUPPORT)
        begun, _ = racers.race(
            partial(promote, version=version, by=trainer), partial(cancel, job=job)
        )
        if begun != "job_state":
            assert registry.rollouts.get(begun.id).state is RolloutState.FAILED


def test_an_idempotency_key_at_once_makes_one_job(racers: Racers, registry: Registry) -> None:
    for turn in range(TIMES):
        words, key = a_job(registry), f"key-{turn}"
        answers = racers.race(
            *[partial(create, words=replace(words, id=new_job_id()), key=key) for _ in range(4)]
        )
        assert len({job.id for job in answers}) == 1
    assert len(registry.jobs.list(OWNER, metadata=None, after=None, limit=99).items) == TIMES


def test_a_key_is_added_once(racers: Racers, registry: Registry) -> None:
    for turn in range(TIMES):
        key = a_key(f"key_{turn}")
        answers = racers.race(*[partial(add_key, key=key)] * 3)
        assert sorted(map(str, answers)).count("key_exists") == 2
    assert len(registry.keys.active()) == TIMES


def test_a_file_that_a_job_has_come_to_name_is_not_deleted(
    racers: Racers, registry: Registry
) -> None:
    for _ in range(TIMES):
        file = added_file(registry)
        words = a_job(registry, training_file=file.id)
        created, deleted = racers.race(
            partial(create, words=words, key=None), partial(delete, file=file)
        )
        assert (created == "not_found") != (deleted == "file_in_use")


def test_bytes_are_condemned_or_named_and_never_both(racers: Racers, registry: Registry) -> None:
    for turn in range(TIMES):
        digest = Digest(f"{turn:064x}")
        file, version, condemned = racers.race(
            partial(added_file, digest=digest),
            partial(published, digest=digest),
            partial(condemn, digest=digest),
        )
        named = [answer for answer in (file, version) if answer != "artifact_condemned"]
        assert bool(named) != (condemned == {digest})


def test_processes_of_one_start_register_at_once(racers: Racers, registry: Registry) -> None:
    for turn in range(TIMES):
        start = f"start-{turn}"
        racers.race(
            *[
                partial(joined, process=a_process(incarnation=start, number=number), observed=False)
                for number in range(4)
            ]
        )
        (replica,) = registry.replicas.list()
        for number in range(4):
            observe(registry, a_process(incarnation=start, number=number))
            beat(registry, a_process(incarnation=start, number=number))
        assert registry.replicas.list()[0].observed == 0
        assert replica.ready


def test_the_last_processes_of_a_replica_leave_at_once(racers: Racers, registry: Registry) -> None:
    for _ in range(TIMES):
        processes = [joined(registry, a_process(number=number)) for number in range(4)]
        racers.race(*[partial(leave, process=process) for process in processes])
        assert registry.replicas.list() == []


def test_a_process_that_comes_beside_a_flip_is_waited_for_or_has_seen_it(
    racers: Racers, registry: Registry
) -> None:
    """Who is told that it has the newest revision, and is not counted, would answer the old way."""
    old = joined(registry)
    for turn in range(TIMES):
        version = published(registry)
        load(registry, old, version)
        rollout = promote(registry, version)
        newcomer = joined(registry, a_process(f"new-{turn}"), observed=False)
        load(registry, newcomer, version)
        seen = registry.routes.revision()
        newest, *_ = racers.race(partial(observe_at, process=newcomer, revision=seen), advance)
        observe(registry, old)
        registry.rollouts.advance()
        complete = registry.rollouts.get(rollout.id).state is RolloutState.COMPLETE
        assert not (complete and newest == seen)
        observe(registry, newcomer)
        registry.rollouts.advance()
        assert registry.rollouts.get(rollout.id).state is RolloutState.COMPLETE
        registry.replicas.leave(newcomer)


def test_keys_revoked_by_two_keep_one_time(racers: Racers, registry: Registry) -> None:
    registry.keys.add([a_key()])
    one, two = racers.race(*[lambda r: r.keys.revoke("key_1", by=ADMIN)] * 2)
    assert one == two
