"""The middleware in front of vLLM's routes: everything Wardrobe does to a request, with no hop.

    authenticate → match the route → (inference) count it in → read and clean the body
    → admit: reserve, a turn in the engine, alias → version, lease
    → rewrite `model` → vLLM's handler → bytes pass through → settle, count

Response bodies pass through untouched, so streaming costs nothing per token. What exists, and which
scope it needs, stands in one table (`service.gateway.access`); everything else is refused.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pydantic_core
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.domain.principals import Principal, Role
from adapters.errors import Draining, WardrobeError
from service import http_errors
from service.engine.content_free_logs import outline
from service.gateway.access import Access, methods_at, refusal
from service.gateway.admit import Permit, Visit, admit, check_open, check_running
from service.gateway.body_allowlist import ENDPOINTS, Endpoint, clean
from service.gateway.lots import lot_of
from service.gateway.rate_headers import headers_for, rate_headers
from service.gateway.request_body import bounded, header, read_json, replay
from service.gateway.response import Answer, Enveloped
from service.gateway.shadow_copies import Original, Tap, copy, shadow_of
from service.gateway.structured_outputs import grammars
from service.observe.request_record import RequestRecord
from service.reconcile.route_table import Share
from service.runtime import Runtime

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
RECORD = "wardrobe.record"
"""Where an ASGI scope carries what is known of its request."""
UPLOADS = frozenset({"/v1/files", "/v1/uploads/{upload_id}/parts", "/v1/adapters/{alias}/versions"})
"""Routes whose bodies are files."""
UPLOAD_MARGIN = 64 * 1024
"""Bytes of multipart framing around a file."""

_TELLING = ("ok", "engine_error", "disconnected")
"""Outcomes that say something of the version. Whoever goes away has waited so long at least: a
version that never answers must not look as if nobody had asked."""

log = structlog.get_logger("wardrobe.gateway")


class Reply:
    """`send` with our request id on it and the caller's limits, that remembers whether the answer
    has begun.

    `leaving`: its connection ends with it, so that its client comes back to another process.
    """

    def __init__(
        self, send: Send, request_id: str, *, leaving: Callable[[], bool] = lambda: False
    ) -> None:
        self._send = send
        self.rest = send
        """The server's own: the bodies of a good answer need nothing of ours."""
        self._header = (b"x-request-id", request_id.encode())
        self._leaving = leaving
        self._asked: tuple[Runtime, Principal] | None = None
        self._visit: Visit | None = None
        self.started = False
        self.status = 0
        self.code: str | None = None
        """Of the error that was answered."""

    def asked_by(self, runtime: Runtime, principal: Principal) -> None:
        """Every answer says what is left of its caller's limits, once the caller is known."""
        self._asked = (runtime, principal)

    def limited_by(self, visit: Visit) -> None:
        """This one spends of them."""
        self._visit = visit

    async def send(self, message: Message) -> None:
        """An ASGI `send`."""
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            headers = [pair for pair in message.get("headers", ()) if pair[0] != b"x-request-id"]
            headers.append(self._header)
            if self._visit is not None:
                headers += rate_headers(self._visit.runtime.meters, self._visit.accounts)
            elif self._asked is not None:
                headers += headers_for(*self._asked)
            if self._leaving():
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        elif self.status >= 400 and self.code is None:
            self.code = http_errors.code_of(message.get("body", b""))
        await self._send(message)

    async def refuse(self, error: WardrobeError) -> None:
        """Answers with one of our errors."""
        status, body, headers = http_errors.render(error)
        headers.append((b"content-length", str(len(body)).encode()))
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


class Gateway:
    """ASGI middleware; given to vLLM with `--middleware service.gateway.gateway.Gateway`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no websocket of vLLM's is offered
            await send({"type": "websocket.close", "code": 1008})
            return
        runtime: Runtime = scope["app"].state.wardrobe
        request_id = http_errors.new_request_id()
        reply = Reply(send, request_id, leaving=lambda: runtime.draining)
        record = scope[RECORD] = RequestRecord(request_id=request_id, method=_method(scope))
        try:
            await self._dispatch(runtime, scope, receive, reply, request_id)
        except asyncio.CancelledError:
            # a shutdown has waited long enough: the web server would answer in words of its own
            await self._refuse(runtime, reply, Draining("this replica is shutting down"))
            raise
        except WardrobeError as error:
            await self._refuse(runtime, reply, error)
        except Exception as error:  # the edge of the process: logged, counted, answered
            # its words may quote the request
            log.error("request_failed", request_id=request_id, error=outline(error))
            began = reply.started
            await self._refuse(runtime, reply, WardrobeError("something went wrong here"))
            if began:  # a cut answer must look cut
                raise
        finally:
            record.end(reply.status, reply.code or record.code)
            runtime.tell(record)

    async def _refuse(self, runtime: Runtime, reply: Reply, error: WardrobeError) -> None:
        runtime.metrics.refused.labels(error.reason).inc()
        if not reply.started:
            await reply.refuse(error)

    async def _dispatch(
        self, runtime: Runtime, scope: Scope, receive: Receive, reply: Reply, request_id: str
    ) -> None:
        method: str = scope["method"]
        send = reply.send
        found = methods_at(scope["path"])
        access = found.get(method)
        if access is not None and access.scope is None:
            _note_route(scope, access)
            await self._app(scope, receive, send)
            return
        if method == "OPTIONS" and _is_preflight(scope) and found:
            await self._app(scope, receive, Enveloped(send).send)
            return
        principal = runtime.authenticate(header(scope, b"authorization"), scope["headers"])
        record: RequestRecord = scope[RECORD]
        record.actor, record.unit = principal.id, principal.unit
        reply.asked_by(runtime, principal)
        if runtime.traces is not None:
            record.traceparent = header(scope, b"traceparent")
        if access is None:
            raise refusal(method, found)
        record.endpoint = access.template
        access.check(principal)
        endpoint = ENDPOINTS.get(access.template)
        if endpoint is not None:
            await self._infer(runtime, scope, receive, reply, (endpoint, principal, request_id))
            return
        _note_route(scope, access)
        await self._administer(runtime, scope, receive, send, (principal, request_id))

    async def _administer(
        self,
        runtime: Runtime,
        scope: Scope,
        receive: Receive,
        send: Send,
        known: tuple[Principal, str],
    ) -> None:
        principal, request_id = known
        if scope["method"] != "GET":
            check_running(runtime)
        scope["state"] |= {"principal": principal, "request_id": request_id}
        route: str = scope["state"]["route"]
        within = bounded(
            receive,
            scope,
            _body_limit(runtime, route, principal),
            # an upload has a time limit of its own, behind the wait for its place
            bodies=None if route in UPLOADS else runtime.open_bodies,
        )
        await self._app(scope, within, Enveloped(send).send)

    async def _infer(
        self,
        runtime: Runtime,
        scope: Scope,
        receive: Receive,
        reply: Reply,
        known: tuple[Endpoint, Principal, str],
    ) -> None:
        endpoint, principal, request_id = known
        started = time.perf_counter()
        check_open(runtime)
        runtime.note_caller()
        visit = Visit(runtime, principal)
        reply.limited_by(visit)
        with visit:  # from here on it counts as in flight, also while it sends or waits
            said = await read_json(
                scope,
                receive,
                runtime.settings.max_body_bytes,
                bodies=runtime.open_bodies,
                owner=principal.owner,
            )
            body = clean(
                endpoint,
                said,
                abilities=runtime.abilities,
                trainer=principal.role is Role.TRAINER,
            )
            for param, schema in grammars(body):
                await runtime.grammars.check(schema, param=param, owner=principal.owner)
            with await admit(visit, body, lot_of(scope, said, request_id)) as permit:
                body |= permit.words()
                shadow = shadow_of(runtime, permit.target, endpoint, request_id)
                tap = Tap(reply.rest) if shadow else None
                answer = Answer(
                    reply.send,
                    permit.target,
                    started,
                    endpoint=endpoint,
                    drain=runtime,
                    bodies=tap.send if tap else reply.rest,
                )
                await self._answer(scope, receive, answer, (permit, body, request_id))
        if shadow is not None and tap is not None:
            self._copy(runtime, shadow, scope, (answer, tap.content, body))

    def _copy(
        self,
        runtime: Runtime,
        shadow: Share,
        scope: Scope,
        known: tuple[Answer, bytes | None, dict[str, Any]],
    ) -> None:
        """Behind an answer that was given: nobody waits for it."""
        answer, content, body = known
        if answer.outcome != "ok":
            return
        original = None
        if content is not None:
            inner = _inner_scope(scope, b"", "")
            original = Original(scope=inner, body=body, content=content, seconds=answer.seconds)
        copy(self._app, runtime, shadow, original)

    async def _answer(
        self,
        scope: Scope,
        receive: Receive,
        answer: Answer,
        known: tuple[Permit, dict[str, Any], str],
    ) -> None:
        permit, body, request_id = known
        runtime = permit.visit.runtime
        content = pydantic_core.to_json(body)
        flight = runtime.quarantine.begin(content)

        def client_gone() -> None:  # while the engine still knows what it has done
            answer.client_gone(runtime.engine.spent(request_id))

        try:
            if flight.suspected:
                await runtime.quarantine.wait_for_turn(flight)
            await self._app(
                _inner_scope(scope, content, request_id),
                replay(content, receive, client_gone),
                answer.send,
            )
        except Exception:
            await answer.fail()
            raise
        finally:
            answer.close()
            flight.end(answered=answer.whole)
            state = scope.get("state", {})
            permit.note_usage(answer.used(state, reserved=permit.cost.tokens))
            answer.count(runtime.metrics, permit.unit, state)
            answer.tell(scope[RECORD], permit.unit)
            if answer.outcome in _TELLING:
                failed = answer.outcome == "engine_error"
                runtime.swap.trials.note(answer.target, failed=failed, seconds=answer.seconds)


def _method(scope: Scope) -> str:
    """One of those that exist; a caller may write anything there."""
    method: str = scope["method"]
    return method if method in METHODS else "other"


def _is_preflight(scope: Scope) -> bool:
    """A browser's question before a request from another origin; it never carries a key.

    vLLM's CORS middleware answers it by itself, without looking at a route.
    """
    asked = {key for key, _ in scope["headers"]}
    return b"origin" in asked and b"access-control-request-method" in asked


def _note_route(scope: Scope, access: Access) -> None:
    """Tells our routers which route was decided on: no other may answer."""
    scope.setdefault("state", {})["route"] = access.template


def _body_limit(runtime: Runtime, route: str, principal: Principal) -> int:
    if route in UPLOADS:
        return runtime.units.current.max_file_bytes(principal.unit) + UPLOAD_MARGIN
    return runtime.settings.max_body_bytes


def _inner_scope(scope: Scope, content: bytes, request_id: str) -> Scope:
    """The scope vLLM sees: our id, our length, no key."""
    headers: http_errors.Headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"x-request-id", request_id.encode()),
        (b"host", b"wardrobe"),
    ]
    origin = header(scope, b"origin")
    if origin is not None:  # for vLLM's CORS middleware, and for nothing else
        headers.append((b"origin", origin))
    scope.setdefault("state", {})
    return {**scope, "headers": headers, "query_string": b""}
