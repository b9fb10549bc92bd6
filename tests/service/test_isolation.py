"""Every route, asked by every kind of caller about its own, a foreign and an unknown thing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from sqlalchemy import event

from adapters.domain.principals import Scope
from service.gateway.access import ACCESS, Access
from tests.service.callers import (
    ABOUT_THINGS,
    FOREIGN,
    MARK,
    OWN,
    Caller,
    Scene,
    error_of,
    scene,
)
from tests.simulation.engine import BASE

pytestmark = pytest.mark.timeout(1800)

CHANGES_AT_LAST = (
    "DELETE /v1/files/{file_id}",
    "DELETE /v1/fine_tuning/checkpoints/{checkpoint}/permissions/{permission_id}",
    "POST /v1/keys/{key_id}/revoke",
)
"""What takes the thing away."""


@pytest.fixture(scope="module")
def everybody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("isolation")) as made:
        yield made


def name_of(row: Access) -> str:
    return f"{row.method} {row.template}"


def in_order() -> list[Access]:
    """What takes things away comes last."""
    return sorted(ACCESS, key=lambda row: name_of(row) in CHANGES_AT_LAST)


every_row = pytest.mark.parametrize("row", in_order(), ids=name_of)


def expected(caller: Caller, row: Access, unit: str) -> int | None:
    """The status of a refusal; None where the request is one that this caller may make."""
    if row.scope is None:
        return None
    if caller.scopes is None:
        return 401
    if row.scope not in caller.scopes:
        return 403
    if row not in ABOUT_THINGS:
        return None
    if "{replica}" in row.template or unit == "nothing":
        return 404
    if row.template.startswith("/v1/keys"):
        return None
    seen = caller.sees(unit)
    if row.scope is Scope.INFER and caller.aliases is not None:
        seen = unit in caller.aliases
    return None if seen else 404


@every_row
def test_whoever_may_not_is_refused_learns_nothing_and_reaches_no_engine(
    everybody: Scene, row: Access
) -> None:
    for caller in everybody.callers:
        for unit in (OWN, FOREIGN, "nothing"):
            before = everybody.engine_calls
            answer = everybody.ask(caller, row, unit)
            about = (caller.name, unit, answer.status_code, answer.text[:300])
            assert answer.status_code < 500, about
            wanted = expected(caller, row, unit)
            if wanted is None:
                assert answer.status_code not in (401, 403), about
                assert answer.status_code != 404 or not _is_there(row), about
            else:
                assert answer.status_code == _as_said(row, wanted, answer), about
                assert everybody.engine_calls == before, about
                assert MARK not in answer.text, about


def _is_there(row: Access) -> bool:
    """Whether the thing surely is: what an earlier caller has deleted is not, no alias has a canary
    or a shadow here, and the simulated engine's app has no metrics.
    """
    ends = row.template.rsplit("/", 1)[-1]
    return (
        name_of(row) not in CHANGES_AT_LAST
        and row.template != "/metrics"
        and not (row.method == "GET" and ends in ("canary", "shadow"))
    )


def _as_said(row: Access, wanted: int, answer: httpx2.Response) -> int:
    """A job's file that is not there is a wrong word of its body, as at OpenAI's."""
    if row.template == "/v1/fine_tuning/jobs" and wanted == 404 and answer.status_code == 400:
        assert error_of(answer)["code"] == "file_not_found"
        return 400
    return wanted


def those_who_see_one_unit(everybody: Scene) -> list[Caller]:
    return [each for each in everybody.callers if each.known and each.unit == OWN]


@pytest.mark.parametrize("row", ABOUT_THINGS, ids=name_of)
def test_a_foreign_thing_and_an_unknown_one_are_answered_alike_and_cost_alike(
    everybody: Scene, row: Access
) -> None:
    """To the last byte but the name that the caller said itself, and to the last statement: who
    measures how long an answer takes measures the same work. No engine is asked for either, and
    nobody looks at the registry anew (`python -m tests.service.answer_times` prints the times).
    """
    for caller in those_who_see_one_unit(everybody):
        answers, costs = [], []
        for unit in (FOREIGN, "nothing"):
            calls, looks = everybody.engine_calls, names_looked_for(everybody)
            with statements(everybody) as seen:
                answer = everybody.ask(caller, row, unit)
            assert everybody.engine_calls == calls
            assert names_looked_for(everybody) == looks
            text = answer.text
            for value in sorted(everybody.things[unit].values(), key=len, reverse=True):
                text = text.replace(value, "…") if len(value) > 1 else text
            answers.append((answer.status_code, text, sorted(_told(answer))))
            costs.append(seen)
        assert answers[0] == answers[1], caller.name
        assert costs[0] == costs[1], caller.name


def names_looked_for(everybody: Scene) -> int:
    """Names that the registry was asked for because the routes did not know them."""
    return len(everybody.world.runtime.swap.routes._unknown)


@pytest.mark.parametrize(
    "template", [row.template for row in ACCESS if row.engines and "v1" in row.template]
)
def test_a_foreign_version_and_an_unknown_one_are_refused_from_memory(
    everybody: Scene, template: str
) -> None:
    """A name of one's own that is unknown costs a look, once; a look for others' would tell."""
    (row,) = [row for row in ACCESS if row.template == template]
    body = next(iter(everybody._body(row, OWN).values()))
    for caller in those_who_see_one_unit(everybody):
        if caller.secret is None or caller.scopes is None or row.scope not in caller.scopes:
            continue
        answers = set()
        before = (everybody.engine_calls, names_looked_for(everybody))
        with statements(everybody) as seen:
            for model in (f"{FOREIGN}:1", f"{FOREIGN}:99", "nothing:1", FOREIGN, "nothing"):
                answer = everybody.http.post(
                    template,
                    json={**body, "model": model},
                    headers={"Authorization": f"Bearer {caller.secret}"},
                )
                answers.add((answer.status_code, answer.content))
        assert {status for status, _ in answers} == {404}
        assert len(answers) == 1
        assert seen == []
        assert (everybody.engine_calls, names_looked_for(everybody)) == before


def _told(answer: httpx2.Response) -> list[str]:
    return [name for name in answer.headers if name not in ("date", "x-request-id")]


class statements:  # noqa: N801 - read as a word
    """Counts the SQL that requests cause; the swap's goes another way."""

    def __init__(self, everybody: Scene) -> None:
        self._engine = everybody.world.runtime.registry.files._database._engine  # type: ignore[attr-defined]
        self._seen: list[str] = []

    def _note(self, *called: Any) -> None:
        self._seen.append(called[2])

    def __enter__(self) -> list[str]:
        event.listen(self._engine, "before_cursor_execute", self._note)
        return self._seen

    def __exit__(self, *error: object) -> None:
        event.remove(self._engine, "before_cursor_execute", self._note)


@pytest.mark.parametrize(
    "row", [row for row in ACCESS if row.method == "GET" and "{" not in row.template], ids=name_of
)
def test_no_list_names_a_thing_of_another_unit(everybody: Scene, row: Access) -> None:
    foreign = everybody.things[FOREIGN]
    for caller in those_who_see_one_unit(everybody):
        text = everybody.ask(caller, row, OWN).text
        assert MARK not in text
        for name in ("file_id", "job_id", "key_id"):
            assert foreign[name] not in text
        assert f'"{FOREIGN}' not in text


def test_the_base_answers_whom_it_was_granted_and_nobody_else(everybody: Scene) -> None:
    for caller in everybody.callers:
        if caller.scopes is None or caller.secret is None:
            continue
        before = everybody.engine_calls
        answer = everybody.http.post(
            "/v1/chat/completions",
            json={"model": BASE, "messages": [{"role": "user", "content": "hi"}]},
            headers={"Authorization": f"Bearer {caller.secret}"},
        )
        granted = {Scope.INFER, Scope.BASE} <= caller.scopes
        assert (answer.status_code == 200) is granted, caller.name
        assert (everybody.engine_calls > before) is granted, caller.name


def test_every_refusal_for_a_missing_scope_is_the_same_whatever_is_named(
    everybody: Scene,
) -> None:
    (caller,) = [each for each in everybody.callers if each.name == "scraper"]
    for row in ABOUT_THINGS:
        answers = [everybody.ask(caller, row, unit) for unit in (OWN, FOREIGN, "nothing")]
        assert {answer.status_code for answer in answers} == {403}
        assert len({answer.content for answer in answers}) == 1


def test_all_who_are_nobody_here_are_told_the_same_wherever_they_ask(everybody: Scene) -> None:
    told = {}
    for caller in everybody.callers:
        if not caller.known:
            asked = [row for row in ACCESS if row.scope is not None]
            answers = [everybody.ask(caller, row, OWN) for row in asked]
            told[caller.name] = {(answer.status_code, answer.content) for answer in answers}
    assert all(len(words) == 1 for words in told.values())
    assert told["a stranger"] == told["revoked"] == told["expired"]
