"""Replicas' shares of a quota, as every registry gives them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from adapters.domain.limits import Quota
from adapters.domain.names import Digest
from adapters.registry import Registry
from adapters.registry.ports import Claim, ProcessId, Registration, Retention, Shares
from tests.adapters.registry.backends import Clock

LIMIT = 1200
ONE = ProcessId(replica="one", incarnation="1")
TWO = ProcessId(replica="two", incarnation="1")
KEPT = Retention(retired_versions=1, rejected_days=1, candidate_days=1, event_days=1)


def claim(
    used: int = 0,
    wanted: int = 0,
    *,
    quota: Quota = Quota.TOKENS_PER_MINUTE,
    period: int = 0,
    account: str = "unit:support",
) -> Claim:
    return Claim(account=account, quota=quota, period=period, limit=LIMIT, used=used, wanted=wanted)


def there(registry: Registry, *processes: ProcessId) -> None:
    for process in processes:
        registry.replicas.register(
            Registration(process=process, base_fingerprint=Digest("b" * 64), limits={})
        )


def share(answer: Shares) -> int:
    (only,) = answer.shares
    return only.share


def test_a_replica_alone_may_use_all_of_it(registry: Registry) -> None:
    there(registry, ONE)
    answer = registry.quotas.share(ONE, [claim()])
    assert (answer.replicas, share(answer), answer.active) == (1, LIMIT, frozenset())


def test_two_replicas_together_never_have_more_than_the_limit(registry: Registry) -> None:
    there(registry, ONE, TWO)
    first = share(registry.quotas.share(ONE, [claim(used=300, wanted=5000)]))
    assert first == LIMIT - LIMIT // 4, "the other may begin at any moment"
    assert registry.quotas.share(TWO, []).active == {"unit:support"}
    second = share(registry.quotas.share(TWO, [claim()]))
    assert first + second <= LIMIT
    again = registry.quotas.share(ONE, [claim(used=first, wanted=5000)])
    assert share(again) + second <= LIMIT
    assert again.shares[0].elsewhere == 0


def test_what_a_replica_gives_up_is_nobody_elses_before_it_says_that_it_goes_by_that(
    registry: Registry,
) -> None:
    there(registry, ONE, TWO)
    had = share(registry.quotas.share(ONE, [claim(used=900, wanted=5000)]))
    left = share(registry.quotas.share(ONE, [replace(claim(used=10), holds=had)]))
    assert left < had
    hungry = claim(wanted=5000)
    assert share(registry.quotas.share(TWO, [hungry])) == LIMIT - had
    registry.quotas.share(ONE, [replace(claim(used=10), holds=left)])
    assert share(registry.quotas.share(TWO, [hungry])) == LIMIT - left


def test_what_a_silent_replica_had_in_flight_is_free_again(
    registry: Registry, clock: Clock
) -> None:
    there(registry, ONE, TWO)
    at_once = claim(used=LIMIT, quota=Quota.CONCURRENT_REQUESTS)
    registry.quotas.share(TWO, [at_once])
    free = claim(quota=Quota.CONCURRENT_REQUESTS)
    assert share(registry.quotas.share(ONE, [free])) == 0
    back = ProcessId(replica="two", incarnation="2")
    assert share(registry.quotas.share(back, [free])) > 0, "its earlier life has nothing in flight"
    clock.pass_by(40.0)
    registry.replicas.heartbeat(ONE, ready=True, lease_seconds=15.0)
    assert share(registry.quotas.share(ONE, [free])) == LIMIT


def test_what_a_silent_replica_used_of_a_budget_stays_used(
    registry: Registry, clock: Clock
) -> None:
    there(registry, ONE, TWO)
    day = {"quota": Quota.TOKENS_PER_DAY, "period": 20_000}
    registry.quotas.share(TWO, [claim(used=500, wanted=500, **day), claim(used=500, wanted=500)])  # type: ignore[arg-type]
    clock.pass_by(3600.0)
    registry.replicas.heartbeat(ONE, ready=True, lease_seconds=15.0)
    of_day, of_minute = registry.quotas.share(ONE, [claim(**day), claim()]).shares  # type: ignore[arg-type]
    assert (of_day.share, of_day.elsewhere) == (LIMIT - 500, 500)
    assert (of_minute.share, of_minute.elsewhere) == (LIMIT, 0)


def test_a_replica_that_came_back_is_not_given_its_budget_again(registry: Registry) -> None:
    there(registry, ONE)
    day = claim(used=900, quota=Quota.TOKENS_PER_DAY, period=20_000)
    registry.quotas.share(ONE, [day])
    back = ProcessId(replica="one", incarnation="2")
    fresh = claim(quota=Quota.TOKENS_PER_DAY, period=20_000)
    assert share(registry.quotas.share(back, [fresh])) == LIMIT - 900
    tomorrow = claim(quota=Quota.TOKENS_PER_DAY, period=20_001)
    assert share(registry.quotas.share(back, [tomorrow])) == LIMIT


def test_saying_the_same_again_changes_nothing(registry: Registry) -> None:
    there(registry, ONE, TWO)
    claims = [claim(used=100, account=f"unit:{number}") for number in range(300)]
    first = registry.quotas.share(ONE, claims)
    assert registry.quotas.share(ONE, claims) == first
    assert [each.claim for each in first.shares] == claims


def test_replicas_that_ask_at_once_are_given_no_more_than_the_limit(registry: Registry) -> None:
    processes = [ProcessId(replica=f"r{number}", incarnation="1") for number in range(4)]
    there(registry, *processes)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            asked = pool.map(
                lambda process: share(registry.quotas.share(process, [claim(wanted=LIMIT)])),
                processes,
            )
            assert sum(asked) <= LIMIT + 3 * LIMIT // 2, "each was told at another moment"
    shares = [share(registry.quotas.share(process, [claim(wanted=9)])) for process in processes]
    assert sum(shares) <= LIMIT


def test_what_no_window_needs_any_more_is_deleted(registry: Registry, clock: Clock) -> None:
    registry.quotas.share(ONE, [claim(used=5)])
    assert registry.collection.collect(KEPT)["quota_shares"] == 0
    clock.pass_by(41 * 86_400.0)
    assert registry.collection.collect(KEPT)["quota_shares"] == 1
