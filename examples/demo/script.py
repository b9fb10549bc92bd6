"""The demo, top to bottom: base, service, three jobs, answers, scores, and a swap under load."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from adapters.domain.units import load_units
from adapters.errors import WardrobeError
from adapters.settings import Settings
from examples.demo import tables
from examples.demo.callers import FIRST_TOKENS, SHOWN_TOKENS, Callers, ask, references
from examples.demo.data import Example, Portion, held_out, portion_for
from examples.demo.house import DemoFailed, House, fresh_folder
from examples.demo.lessons import start_job, watch
from examples.demo.verdict import Flip, Reference, Verdict, judge
from service.cli.client import Client
from service.launch.base_profile import kept_profile
from service.launch.base_resolver import resolve_base

CALLERS = 8
PACE_IN_TRAINING = 2.0
"""Seconds at least that a caller thinks between two questions while a job runs."""
SHARE_IN_TRAINING = 0.15
"""Of the engine's time that the callers may take then: the trainer needs the same two cores."""
PACE_IN_SWAPS = 0.05
QUESTIONS = 8
ANSWERS_BETWEEN_FLIPS = 2 * CALLERS
"""What the callers must have been told before the route moves again, however long that takes."""
SHOWN = 2
SWAPPED = "support"


@dataclass(frozen=True)
class Stage:
    """What the steps pass on: where to print, the running house, the units and their aliases."""

    console: Console
    house: House
    aliases: Mapping[str, str]
    """Unit → the alias its first adapter answers to."""
    portion: Portion


def run_demo(folder: Path) -> int:
    """Plays all steps; returns 0. Raises WardrobeError, openai.APIError, OSError."""
    console = Console(width=None if Console().is_terminal else 120, highlight=False)
    began = time.monotonic()
    settings = Settings()
    aliases: dict[str, str] = {
        unit: config.aliases[0] for unit, config in load_units(settings.units).by_name.items()
    }
    state = fresh_folder(folder)

    _title(console, "1 · The base model, built once and then kept")
    base = resolve_base(settings)
    profile = kept_profile(settings, base.path)
    portion = portion_for(profile.parameters)
    console.print(f"  {base.name}, {profile.parameters / 1e6:,.0f} M parameters, in {base.path}")

    _title(console, "2 · The service: vLLM with our endpoints inside it, and the trainer beside it")
    house = House.open(state, settings)
    with _closing(house, console):
        stage = Stage(console, house, aliases, portion)
        _wait(stage)
        versions = _teach_everyone(stage)
        _show_answers(stage, versions)
        _show_scores(stage, versions)
        verdict = _swap_under_load(stage, versions[SWAPPED])
    if not verdict.clean:
        raise DemoFailed("the swaps were not clean (see the table above)")
    console.print(
        f"\n[bold green]All of it worked[/], in {time.monotonic() - began:.0f} s. Go on with "
        f"[bold]make up STATE={folder}[/]: everything learned is still there."
    )
    return 0


def _wait(stage: Stage) -> None:
    since = time.monotonic()
    with stage.console.status("  starting the engine") as status:
        stage.house.wait_until_ready(
            lambda: status.update(f"  starting the engine, {time.monotonic() - since:.0f} s")
        )
    stage.console.print(
        f"  ready after {time.monotonic() - since:.0f} s: {stage.house.url}/v1, "
        f"keys in {stage.house.folder.keys}"
    )


def _teach_everyone(stage: Stage) -> dict[str, str]:
    _title(stage.console, "3 · Three units, three fine-tuning jobs, through the openai SDK")
    stage.console.print(f"  each learns from {stage.portion.train} examples, one after another")
    jobs = {}
    for unit in stage.aliases:
        client = stage.house.client(unit)
        jobs[unit] = (client, start_job(client, unit, stage.portion))
    versions = watch(stage.console, jobs, check=stage.house.check)
    for unit, alias in stage.aliases.items():
        live = stage.house.client(unit).adapter(alias)["route"]["stable"]
        if live != versions[unit]:
            raise DemoFailed(f"{versions[unit]} has passed its gates, but {live} is live")
    return versions


def _show_answers(stage: Stage, versions: Mapping[str, str]) -> None:
    _title(stage.console, "4 · The same questions to the base model and to each unit's adapter")
    shown = [
        (unit, example)
        for unit in stage.aliases
        for example in held_out(unit, stage.portion)[:SHOWN]
    ]

    def row(one: tuple[str, Example]) -> tuple[str, str, str, str]:
        unit, example = one
        client = stage.house.client(unit)
        base, adapter = (
            ask(client, model, example, max_tokens=SHOWN_TOKENS)
            for model in (client.base_model(), stage.aliases[unit])
        )
        return versions[unit], example.question, base, adapter

    with ThreadPoolExecutor(len(shown), thread_name_prefix="shown") as pool:
        tables.answers(stage.console, list(pool.map(row, shown)))


def _show_scores(stage: Stage, versions: Mapping[str, str]) -> None:
    _title(stage.console, "5 · Why they went live: gates, measured through the serving engine")
    tables.scores(
        stage.console,
        [stage.house.client(unit).version(version) for unit, version in versions.items()],
    )


def _swap_under_load(stage: Stage, first: str) -> Verdict:
    _title(
        stage.console, f"6 · A second version of {SWAPPED}, while {CALLERS} clients keep calling it"
    )
    client = stage.house.client(SWAPPED)
    alias = stage.aliases[SWAPPED]
    questions = held_out(SWAPPED, stage.portion)[:QUESTIONS]
    known = {first: _first_words(client, first, questions)}
    pace = pace_in_training(_seconds_for_an_answer(client, first, questions[0]))
    stage.console.print(
        f"  it trains {first} further, on data that writes the topic in capitals: so every answer "
        "tells the two apart"
    )
    callers = Callers(client, alias, questions, count=CALLERS, pace=pace, max_tokens=FIRST_TOKENS)
    with callers.calling():
        job = (client, start_job(client, SWAPPED, stage.portion, edition=2, further=first))
        second = watch(stage.console, {SWAPPED: job}, check=stage.house.check)[SWAPPED]
        callers.pace = PACE_IN_SWAPS
        flips = [_automatic(client, alias, second)]
        for command, version in (
            (lambda: client.rollback(alias), first),
            (lambda: _promote_again(client, alias, second), second),
        ):
            _until_answered(stage, callers, since=flips[-1].complete)
            flips.append(_flip(stage, command, version))
        _until_answered(stage, callers, since=flips[-1].complete)
    known[second] = _first_words(client, second, questions)
    verdict = judge(callers.calls, known, flips)
    tables.verdict(stage.console, verdict, _rollouts(client, alias))
    return verdict


def pace_in_training(answer_seconds: float) -> float:
    """How long each caller thinks, so that all of them together leave the trainer its cores."""
    return max(PACE_IN_TRAINING, CALLERS * answer_seconds / SHARE_IN_TRAINING)


def _first_words(client: Client, version: str, questions: Sequence[Example]) -> list[Reference]:
    return references(client, version, questions, at_once=CALLERS, max_tokens=FIRST_TOKENS)


def _seconds_for_an_answer(client: Client, version: str, example: Example) -> float:
    began = time.monotonic()
    ask(client, version, example, max_tokens=FIRST_TOKENS)
    return time.monotonic() - began


def _promote_again(client: Client, alias: str, version: str) -> Mapping[str, object]:
    """Puts live what was rolled back: only who has seen the route since may do that."""
    generation = client.adapter(alias)["route"]["generation"]
    return client.promote(alias, version, generation=generation)


def _until_answered(stage: Stage, callers: Callers, *, since: float) -> None:
    """Every call ends, at the latest with an error, so this does, too. Raises DemoFailed."""
    while callers.answered(since=since) < ANSWERS_BETWEEN_FLIPS:
        stage.house.check()
        time.sleep(0.1)


def _automatic(client: Client, alias: str, version: str) -> Flip:
    """The promotion at the end of a job: complete before the job says that it succeeded."""
    live = client.adapter(alias)["route"]["stable"]
    if live != version:
        raise DemoFailed(f"{version} has passed its gates, but {live} is live")
    now = time.monotonic()
    return Flip(version=version, begun=now, complete=now)


def _flip(stage: Stage, command: Callable[[], Mapping[str, object]], version: str) -> Flip:
    begun = time.monotonic()
    rollout = command()
    complete = time.monotonic()
    if rollout["state"] != "complete" or rollout["version"] != version:
        raise DemoFailed(f"{rollout['action']} to {version} is {rollout['state']}")
    stage.console.print(
        f"  {rollout['action']:<8} to {version}: {(complete - begun) * 1000:.0f} ms for the client"
    )
    return Flip(version=version, begun=begun, complete=complete)


def _rollouts(client: Client, alias: str) -> Sequence[Mapping[str, object]]:
    return client.rollouts(alias)[::-1]


@contextmanager
def _closing(house: House, console: Console) -> Iterator[None]:
    """Stops the house whatever happens; what was going wrong before is what gets told."""
    try:
        yield
    except BaseException:
        _stop_quietly(house)
        raise
    _title(console, "7 · The end: everything stops, nothing stays behind")
    left = house.close()
    if left:
        raise DemoFailed(f"{len(left)} processes were left behind")
    console.print("  stopped with exit code 0, no process left")


def _stop_quietly(house: House) -> None:
    try:
        house.close()
    except WardrobeError:
        return


def _title(console: Console, text: str) -> None:
    console.print(f"\n[bold]{text}[/]")
