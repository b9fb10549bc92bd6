"""TLS: who has the certificate, who trusts it, and by which name it is called."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.chart import Chart, Object, Rendered

TLS = {"existingSecret": "wardrobe-tls", "authorityKey": "ca.crt"}


@pytest.fixture
def encrypted(chart: Chart) -> Rendered:
    return chart.render({"tls": TLS})


def _secret(rendered: Rendered, volume: str) -> Object:
    (found,) = [each for each in rendered.pod["volumes"] if each["name"] == volume]
    secret: Object = found["secret"]
    return secret


def _mounts(container: Object) -> dict[str, str]:
    return {each["name"]: each["mountPath"] for each in container["volumeMounts"]}


def test_the_service_alone_has_the_certificates_key(encrypted: Rendered) -> None:
    assert _secret(encrypted, "tls")["secretName"] == "wardrobe-tls"
    mounts = {name: _mounts(encrypted.container(name)) for name in ("base", "service", "trainer")}
    assert [name for name, each in mounts.items() if "tls" in each] == ["service"]
    given = encrypted.environment("service")
    for setting, file in (("WARDROBE_TLS_CERT", "tls.crt"), ("WARDROBE_TLS_KEY", "tls.key")):
        assert given[setting] == f"{mounts['service']['tls']}/{file}"
    assert {each["path"] for each in _secret(encrypted, "tls")["items"]} == {"tls.crt", "tls.key"}
    assert all("subPath" not in each for each in encrypted.container("service")["volumeMounts"]
               if each["name"] == "tls"), "a new pair is put in its place"  # fmt: skip


def test_probes_speak_tls_where_the_service_does(encrypted: Rendered, defaults: Rendered) -> None:
    for rendered, scheme in ((encrypted, "HTTPS"), (defaults, "HTTP")):
        service = rendered.container("service")
        kinds = ("startup", "readiness", "liveness")
        schemes = {service[f"{kind}Probe"]["httpGet"]["scheme"] for kind in kinds}
        assert schemes == {scheme}


def check_calls_its_own_pod(rendered: Rendered, container: str) -> None:
    """By the certificate's name, trusting the authority."""
    given = rendered.environment(container)
    assert given["WARDROBE_SERVICE_URL"] == "https://demo-wardrobe.prod.svc:8000"
    assert rendered.pod["hostAliases"] == [
        {"ip": "127.0.0.1", "hostnames": ["demo-wardrobe.prod.svc"]}
    ]
    folder = _mounts(rendered.container(container))["authority"]
    assert given["WARDROBE_SERVICE_CA"] == f"{folder}/ca.crt"
    assert [each["key"] for each in _secret(rendered, "authority")["items"]] == ["ca.crt"]


def test_the_trainer_beside_calls_it_by_the_certificates_name_and_trusts_the_authority(
    encrypted: Rendered,
) -> None:
    check_calls_its_own_pod(encrypted, "trainer")


@pytest.mark.parametrize("layout", ["one pod", "several"])
def test_the_command_line_in_the_services_pod_calls_that_pod_and_trusts_it(
    encrypted: Rendered, everything: Rendered, layout: str
) -> None:
    check_calls_its_own_pod(encrypted if layout == "one pod" else everything, "service")


def test_the_charts_test_and_the_scrape_check_the_certificate(
    chart: Chart, everything: Rendered
) -> None:
    (hook,) = everything.hooks
    (ready,) = hook["spec"]["containers"]
    assert ready["command"][-1] == "https://demo-wardrobe.prod.svc:80"
    assert ready["env"] == [{"name": "SSL_CERT_FILE", "value": "/etc/wardrobe/authority/ca.crt"}]
    (scraped,) = everything.of("ServiceMonitor")["spec"]["endpoints"]
    assert scraped["scheme"] == "https"
    assert scraped["tlsConfig"] == {
        "serverName": "demo-wardrobe.prod.svc",
        "ca": {"secret": {"name": "wardrobe-tls", "key": "ca.crt"}},
    }


@pytest.mark.parametrize(
    ("changed", "host"),
    [
        ({"authorityKey": ""}, "demo-wardrobe.prod.svc"),
        ({"serverName": "ai.example"}, "ai.example"),
    ],
)
def test_another_name_and_a_known_authority_are_said_in_values(
    chart: Chart, changed: dict[str, Any], host: str
) -> None:
    rendered = chart.render({"tls": TLS | changed})
    given = rendered.environment("trainer")
    assert given["WARDROBE_SERVICE_URL"] == f"https://{host}:8000"
    knows = "authority" in {each["name"] for each in rendered.pod["volumes"]}
    assert knows == ("WARDROBE_SERVICE_CA" in given) == ("authorityKey" not in changed)
