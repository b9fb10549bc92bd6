"""Who is started in front of a replica, and what each is given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adapters.settings import Settings
from service.engine.listener import LISTENER
from service.launch.child_process import ProcessSpec
from service.launch.front import open_front
from tests.servers.certificates import write_pair
from tests.service.world import free_port


def a_spec(name: str) -> ProcessSpec:
    return ProcessSpec(name=name, command=["true"], environment={"KEPT": "1"}, log=None)


def test_the_socket_goes_to_the_service_and_the_fallback_server_and_to_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDROBE_ADMIN_KEY", "a-key-from-a-secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    files = write_pair(tmp_path, "one")
    settings = Settings(
        state=tmp_path / "state", port=free_port(), tls_cert=files[0], tls_key=files[1]
    )
    settings.state_folder.create()
    with open_front(settings) as front:
        specs = front.behind([a_spec("service"), a_spec("trainer")], logs=None, instance="x")
        fallback, service, trainer = specs
        number = front.listener.fileno()
        assert os.get_inheritable(number) is False, "whatever else is started does not get it"
    assert fallback.inherits == service.inherits == (number,)
    assert fallback.environment[LISTENER] == service.environment[LISTENER] == str(number)
    assert service.environment["KEPT"] == "1"
    assert (service.guard, fallback.guard, trainer.guard) == (front.guard, None, None)
    assert trainer == a_spec("trainer")
    assert list(fallback.command[-2:]) == [str(files[0]), str(files[1])]
    assert "secret" not in " ".join(fallback.environment.values())
