"""The table of who may reach what."""

from __future__ import annotations

import re

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from adapters.domain.names import Unit
from adapters.domain.principals import Principal, Role, Scope
from adapters.errors import MethodNotAllowed, NotFound, NotPermitted
from service.api import attach
from service.gateway.access import ACCESS, Access, methods_at, refusal
from service.gateway.body_allowlist import ENDPOINTS

OPEN = {"/livez", "/readyz", "/health"}


def path_of(row: Access) -> str:
    return re.sub(r"\{\w+\}", "x", row.template)


every_row = pytest.mark.parametrize("row", ACCESS, ids=lambda row: f"{row.method} {row.template}")


def test_every_route_of_ours_stands_in_the_table_and_no_other() -> None:
    app = FastAPI(openapi_url=None)
    attach(app)
    ours = {
        (method, route.path)
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }
    assert ours == {(row.method, row.template) for row in ACCESS if not row.engines}


def test_every_endpoint_that_infers_needs_the_scope_for_it() -> None:
    engines = {row.template: row.scope for row in ACCESS if row.engines}
    assert engines == {"/metrics": Scope.METRICS} | dict.fromkeys(ENDPOINTS, Scope.INFER)


def test_only_probes_are_open() -> None:
    assert {row.template for row in ACCESS if row.scope is None} == OPEN
    assert {row.method for row in ACCESS if row.template in OPEN} == {"GET", "HEAD"}


def test_no_row_stands_twice_and_no_path_is_two_templates() -> None:
    assert len({(row.method, row.template) for row in ACCESS}) == len(ACCESS)
    shapes = {row.template: re.sub(r"\{\w+\}", "[^/]+", row.template) for row in ACCESS}
    for row in ACCESS:
        assert [t for t, shape in shapes.items() if re.fullmatch(shape, path_of(row))] == [
            row.template
        ]


@every_row
def test_a_path_is_found_by_its_whole_template_and_method(row: Access) -> None:
    path = path_of(row)
    assert methods_at(path)[row.method] is row
    others = [f"{path}/", f"/{path}", f"{path}x/y", path.upper(), f"{path}\n/", f"{path}?x", ""]
    for other in others:
        found = methods_at(other)
        assert row not in found.values() or "{" in row.template, other
    if "{" not in row.template:
        assert methods_at(path) == {r.method: r for r in ACCESS if r.template == row.template}
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "TRACE"} - {
        other.method for other in ACCESS if other.template == row.template
    }:
        assert method not in methods_at(path)


@every_row
def test_a_row_lets_those_in_who_have_its_scope_and_nobody_else(row: Access) -> None:
    def with_scopes(scopes: set[Scope]) -> Principal:
        return Principal(id="key_1", role=Role.UNIT, unit=Unit("support"), scopes=frozenset(scopes))

    if row.scope is None:
        row.check(with_scopes(set()))
        return
    row.check(with_scopes({row.scope}))
    for scopes in (set(), set(Scope) - {row.scope}):
        with pytest.raises(NotPermitted):
            row.check(with_scopes(scopes))


def test_another_method_is_named_where_ours_answers_and_not_found_where_the_engine_does() -> None:
    refused = refusal("PUT", methods_at("/v1/files"))
    assert isinstance(refused, MethodNotAllowed)
    assert refused.allowed == ("GET", "POST")
    assert isinstance(refusal("GET", methods_at("/v1/chat/completions")), NotFound)
    assert isinstance(refusal("GET", methods_at("/nothing")), NotFound)
