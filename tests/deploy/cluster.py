"""The smallest API server that Helm will plan an install against.

It answers what a dry run asks: its version, its kinds, and "not found" for every object. That gives
the chart's tests real capabilities (`--kube-version`, `--api-versions`); it stores nothing.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KINDS = {
    "v1": {
        "configmaps": "ConfigMap",
        "namespaces": "Namespace",
        "persistentvolumeclaims": "PersistentVolumeClaim",
        "pods": "Pod",
        "secrets": "Secret",
        "serviceaccounts": "ServiceAccount",
        "services": "Service",
    },
    "apps/v1": {"deployments": "Deployment"},
    "networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy"},
    "policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
}
MONITORING = {
    "monitoring.coreos.com/v1": {
        "podmonitors": "PodMonitor",
        "prometheusrules": "PrometheusRule",
        "servicemonitors": "ServiceMonitor",
    }
}
Kinds = dict[str, dict[str, str]]


@contextmanager
def cluster(*, version: str, monitoring: bool) -> Iterator[str]:
    """Serves such a cluster on loopback; yields a kubeconfig for it."""
    answers = _answers(version, KINDS | (MONITORING if monitoring else {}))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = answers.get(self.path.partition("?")[0])
            body = json.dumps(found or {"kind": "Status", "reason": "NotFound", "code": 404})
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield kubeconfig(f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def kubeconfig(url: str) -> str:
    """A kubeconfig without credentials."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "x",
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        }
    )


def _answers(version: str, kinds: Kinds) -> dict[str, dict[str, Any]]:
    """Path → document, of everything that exists here."""
    major, minor = version.lstrip("v").split(".")[:2]
    groups = [
        {
            "name": name.partition("/")[0],
            "versions": [{"groupVersion": name, "version": name.partition("/")[2]}],
            "preferredVersion": {"groupVersion": name, "version": name.partition("/")[2]},
        }
        for name in kinds
        if "/" in name
    ]
    paths = {name: f"apis/{name}" if "/" in name else f"api/{name}" for name in kinds}
    answers: dict[str, dict[str, Any]] = {
        "/version": {"major": major, "minor": minor, "gitVersion": version},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups},
        "/openapi/v3": {
            "paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}"} for path in paths.values()}
        },
    }
    for name, path in paths.items():
        answers[f"/{path}"] = _resources(name, kinds[name])
        answers[f"/openapi/v3/{path}"] = _openapi(name, path, kinds[name])
    return answers


def _resources(name: str, kinds: dict[str, str]) -> dict[str, Any]:
    resources = [
        {
            "name": plural,
            "singularName": kind.lower(),
            "namespaced": kind != "Namespace",
            "kind": kind,
            "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
        }
        for plural, kind in kinds.items()
    ]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": name,
        "resources": resources,
    }


def _openapi(name: str, path: str, kinds: dict[str, str]) -> dict[str, Any]:
    """Enough for Helm 4 to see that the server validates fields itself."""
    group, _, version = name.rpartition("/")
    paths = {
        f"/{path}/namespaces/{{namespace}}/{plural}/{{name}}": {
            "patch": {
                "x-kubernetes-group-version-kind": {
                    "group": group,
                    "version": version,
                    "kind": kind,
                },
                "responses": {},
                "parameters": [
                    {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}
                ],
            }
        }
        for plural, kind in kinds.items()
    }
    return {"openapi": "3.0.0", "info": {"title": "k", "version": "v1"}, "paths": paths}
