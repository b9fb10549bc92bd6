"""Usage over HTTP, with the real SDK, and on the command line."""

from __future__ import annotations

import time
from typing import Any

import openai
import pytest

from adapters.domain.limits import Traffic
from adapters.registry.ports import UsageKey, Used
from tests.service.world import World
from tests.simulation.engine import BASE

DAY = 86_400
TODAY = int(time.time()) // DAY


def note(world: World, unit: str, version: str = "base", *, requests: int = 1) -> None:
    alias = BASE if version == "base" else unit
    key = UsageKey(unit=unit, alias=alias, version=version, traffic=Traffic.INTERACTIVE)
    used = Used(
        requests=requests,
        prompt_tokens=10 * requests,
        completion_tokens=2 * requests,
        cost_nano=5 * 10**8 * requests,
    )
    world.runtime.registry.usage.add(f"{unit}/{version}", 1, [(key, used)])


def admin(world: World, owner: str = "admin") -> Any:
    client = openai.OpenAI(
        base_url=f"{world.url}/v1", api_key="none", admin_api_key=world.key(owner), max_retries=0
    )
    world.opened.append(client)
    return client.admin.organization.usage


def test_the_sdks_admin_client_reads_what_each_unit_has_used(world: World) -> None:
    note(world, "support", "support:1", requests=3)
    note(world, "hr")
    page = admin(world).completions(
        start_time=TODAY * DAY, group_by=["project_id", "model"], limit=1
    )
    (bucket,) = page.data
    assert bucket.start_time == TODAY * DAY
    found = {each.project_id: each for each in bucket.results}
    assert {unit: each.num_model_requests for unit, each in found.items()} == {
        "support": 3,
        "hr": 1,
    }
    assert (found["support"].model, found["hr"].model) == ("support:1", BASE)
    assert (found["support"].input_tokens, found["support"].output_tokens) == (30, 6)
    assert found["support"].x_cost == {"value": 1.5, "currency": "usd"}


def test_a_unit_sees_its_own_usage_and_the_trainer_none(world: World) -> None:
    note(world, "support")
    note(world, "hr", requests=7)
    page = admin(world, "hr").completions(start_time=TODAY * DAY)
    assert [each.num_model_requests for bucket in page.data for each in bucket.results] == [7]
    foreign = admin(world, "hr").completions(start_time=TODAY * DAY, project_ids=["support"])
    assert [each for bucket in foreign.data for each in bucket.results] == []
    with pytest.raises(openai.PermissionDeniedError):
        admin(world, "trainer").completions(start_time=TODAY * DAY)


def test_pages_of_days_follow_each_other_and_end(world: World) -> None:
    note(world, "support")
    usage, days, page = admin(world), list[int](), None
    while True:
        more: dict[str, Any] = {"page": page} if page else {}
        found = usage.completions(
            start_time=(TODAY - 9) * DAY, end_time=(TODAY + 1) * DAY, limit=4, **more
        )
        days += [bucket.start_time // DAY for bucket in found.data]
        page = found.next_page
        if not found.has_more:
            break
    assert days == list(range(TODAY - 9, TODAY + 1))


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"start_time": "-1"}, "start_time"),
        ({"start_time": "9" * 30}, "start_time"),
        ({"start_time": "0", "end_time": "1e9"}, "end_time"),
        ({"start_time": "0", "limit": "32"}, "limit"),
        ({"start_time": "0", "limit": "0"}, "limit"),
        ({"start_time": "0", "page": "day_x"}, "page"),
        ({"start_time": "0", "bucket_width": "1h"}, "bucket_width"),
        ({"start_time": "0", "group_by": "user_id"}, "group_by"),
        ({"start_time": "0", "user_ids": "x"}, "user_ids"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(
    world: World, query: dict[str, str], param: str
) -> None:
    answer = world.http().get("/v1/organization/usage/completions", params=query)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_where_no_days_are_named_it_is_the_last_week(world: World) -> None:
    buckets = world.http().get("/v1/organization/usage/completions").json()["data"]
    assert [bucket["start_time"] // DAY for bucket in buckets] == list(range(TODAY - 6, TODAY + 1))


def test_far_away_days_are_empty_and_cost_nothing(world: World) -> None:
    answer = world.http().get(
        "/v1/organization/usage/completions", params={"start_time": "9999999999", "limit": "31"}
    )
    assert answer.status_code == 200
    assert all(bucket["results"] == [] for bucket in answer.json()["data"])
