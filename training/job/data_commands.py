"""`python -m training.job.data_commands check|find|erase …`, with WARDROBE_* settings.

Looks at training data as a job would, and at what versions were trained on. Content stays where it
is: what is printed are names, ids, lines and numbers.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from adapters.admission.base_model import BaseModel, load_base_model
from adapters.domain.audit import parse_reason
from adapters.domain.erasures import MAX_TERMS
from adapters.domain.names import Alias, Unit
from adapters.domain.principals import SYSTEM, Principal, Role
from adapters.domain.recipes import (
    FROM_BASE,
    Hyperparameters,
    Method,
    RecipeOverrides,
    base_overrides,
    resolve,
)
from adapters.domain.units import UnitConfig, Units, load_units
from adapters.errors import InvalidRequest, WardrobeError
from adapters.logs import configure_logs
from adapters.registry import Registry
from adapters.registry.open import open_registry
from adapters.registry.ports import NewJob
from adapters.settings import Settings
from adapters.store.open import open_store
from adapters.telemetry_off import turn_telemetry_off
from training.base.base_fit import advised, suited
from training.data.preferences import KIND_OF
from training.data.render import ChatRenderer, Renderer
from training.job.check_data import Offer, Report, check_data
from training.job.dataset import rules_for, taught_beside
from training.job.pace import nobody_knows, pace, speed_of_a_job
from training.job.records import Archive, Person, Records, Seen, find_records, person_of


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What the commands work with."""

    registry: Registry
    archive: Archive
    base: BaseModel
    renderer: Renderer
    units: Units
    unit: UnitConfig
    products_per_second: Callable[[], float | None] = nobody_knows
    """As `training.job.pace.pace` takes it."""

    @property
    def name(self) -> Unit:
        return Unit(self.unit.unit)


def check(desk: Desk, chosen: argparse.Namespace) -> tuple[int, dict[str, Any], list[str]]:
    """(exit code, for machines, for people)."""
    adapter = chosen.adapter or desk.unit.aliases[0]
    if desk.units.owner_of.get(Alias(adapter)) != desk.name:
        raise InvalidRequest(f"`{adapter}` is no alias of {desk.name}", param="adapter")
    files: dict[str, Callable[[], BinaryIO]] = {
        "training_file": lambda: chosen.file.open("rb"),
        **({"validation_file": lambda: chosen.valid.open("rb")} if chosen.valid else {}),
    }
    base = desk.base
    recipe = resolve(
        base=advised(base_overrides(base.path), base.shapes),
        unit=desk.unit.recipe,
        job=Hyperparameters(method=chosen.method and Method(chosen.method)),
    )
    offer = Offer(
        adapter=adapter,
        recipe=suited(recipe, base.shapes, base.path),
        renderer=desk.renderer,
        base=base.fingerprint,
        known=lambda asked: desk.registry.datasets.parts(adapter, asked),
        beside=taught_beside(desk.unit.gates, recipe),
        pace=pace(desk.registry.versions, base, desk.products_per_second),
        price_per_hour=chosen.price_per_hour,
    )
    rules = rules_for(desk.unit, desk.units.folder, desk.registry.erasures, KIND_OF[recipe.method])
    with tempfile.TemporaryDirectory() as folder:
        report = check_data(files, rules, offer, workdir=Path(folder) / "check")
    verdict = _verdict(desk.unit, report) if report.usable else f"{report.problem_count} problems"
    return int(not report.usable), report.as_json(), [*report.as_lines(), verdict]


def _verdict(unit: UnitConfig, report: Report) -> str:
    """Of files that can be trained on: whether the data gate would hold the version up."""
    stages, options = report.facts["stages"], unit.gates.data
    left = stages["screen"].get("left", 0) / max(1, stages["read"]["examples"])
    if options is None or left <= options.max_personal:
        return "can be trained on"
    return (
        "can be trained on, but the gate `data: personal` would hold the version up: "
        f"{left:.3g} findings an example, at most {options.max_personal:g} allowed"
    )


def find(desk: Desk, chosen: argparse.Namespace) -> tuple[int, dict[str, Any], list[str]]:
    """(exit code, for machines, for people)."""
    records = find_records(desk.archive, desk.name, _person(desk, chosen.terms))
    return 0, _as_json(records), list(_as_lines(records))


def erase(desk: Desk, chosen: argparse.Namespace) -> tuple[int, dict[str, Any], list[str]]:
    """(exit code, for machines, for people)."""
    person = _person(desk, chosen.terms)
    reason = parse_reason(chosen.reason)
    # first: a job that begins meanwhile leaves them out already
    new = desk.registry.erasures.add(desk.name, person.terms, SYSTEM, reason=reason)
    records = find_records(desk.archive, desk.name, person)
    jobs, failures = _retrain_all(desk, _newest(records) if chosen.retrain else ())
    found = {
        **_as_json(records),
        "terms": len(person.terms),
        "new_terms": new,
        "jobs": jobs,
        "not_started": [
            {"version": name, "code": error.reason, "message": error.message}
            for name, error in failures.items()
        ],
    }
    lines = [
        f"erased {len(person.terms)} terms ({new} new): no job trains on them from now on",
        *_as_lines(records),
        *(f"started {job}" for job in jobs),
        *(f"{name}  NOT started: {error.message}" for name, error in failures.items()),
    ]
    return int(bool(failures)), found, lines


def _person(desk: Desk, lines: Iterable[str]) -> Person:
    try:
        words = [line.strip() for line in lines if line.strip()]
    except UnicodeDecodeError as error:
        raise InvalidRequest("terms are text in UTF-8", param="terms") from error
    if len(words) > MAX_TERMS:
        raise InvalidRequest(f"give at most {MAX_TERMS} terms", param="terms")
    key = desk.registry.erasures.key(desk.name)
    return person_of(words, key, desk.unit.data, desk.units.folder)


def _newest(records: Records) -> list[Seen]:
    """Of each adapter, the newest version that answers or may."""
    by_adapter: dict[str, Seen] = {}
    for seen in records.seen:
        if seen.to_retrain:
            by_adapter.setdefault(seen.version.adapter, seen)
    return list(by_adapter.values())


def _retrain_all(
    desk: Desk, versions: Iterable[Seen]
) -> tuple[list[str], dict[str, WardrobeError]]:
    """The jobs that were started, and by version why one was not: each is tried."""
    jobs: list[str] = []
    failures: dict[str, WardrobeError] = {}
    for seen in versions:
        try:
            jobs.append(_retrain(desk, seen))
        except WardrobeError as error:
            failures[seen.version.name] = error
    return jobs, failures


def _retrain(desk: Desk, seen: Seen) -> str:
    """A job like the one that made the version; once for each version, however often it is asked.

    It begins with the base: what is trained further keeps what it has learnt. Raises NotFound where
    the job or its file was deleted.
    """
    by = Principal(id="system", role=Role.UNIT, unit=desk.name)
    job = desk.registry.jobs.get(seen.job_id, by)
    recipe = (job.recipe or RecipeOverrides()).model_copy(update={"start": FROM_BASE})
    new = NewJob.like(job, model=desk.base.name, recipe=recipe)
    once = f"erasure-{seen.version.name}"
    return str(desk.registry.jobs.create(new, by, idempotency_key=once).id)


def _as_json(records: Records) -> dict[str, Any]:
    return {
        "versions": [
            {
                "version": seen.version.name,
                "state": seen.version.state,
                "job": seen.job_id,
                "retrain": seen.to_retrain,
                "rows": list(seen.rows),
                "through": seen.through,
            }
            for seen in records.seen
        ],
        "files": [
            {"file": file.id, "filename": file.filename, "lines": list(lines)}
            for file, lines in records.files
        ],
        "unread": list(records.unread),
    }


def _as_lines(records: Records) -> Iterator[str]:
    for seen in records.seen:
        what = "retrain" if seen.to_retrain else str(seen.version.state)
        rows = f"{len(seen.rows)} examples" if seen.rows else f"by way of {seen.through}"
        yield f"{seen.version.name}  {what}  {rows}  made by {seen.job_id}"
    for file, lines in records.files:
        yield f"{file.id}  delete the upload  {len(lines)} lines, the first is {lines[0]}"
    for name in records.unread:
        yield f"{name}  not looked through: its data is of another base, brought, or not kept"
    if not records.seen and not records.files:
        yield "no version that could be looked through saw such records, and no upload has them"


@contextmanager
def _desk(settings: Settings, unit: str) -> Iterator[Desk]:
    units = load_units(settings.units)
    path = Path(settings.base)
    base = load_base_model(path, name=settings.base_name or path.name, cache=settings.cache)
    renderer = ChatRenderer(path)
    registry = open_registry(settings.registry_url)
    try:
        archive = Archive(
            registry=registry,
            store=open_store(settings),
            base_fingerprint=base.fingerprint,
            read=renderer.text,
        )
        yield Desk(
            registry=registry,
            archive=archive,
            base=base,
            renderer=renderer,
            units=units,
            unit=units.get(unit),
            products_per_second=partial(speed_of_a_job, settings),
        )
    finally:
        registry.close()


def _arguments() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(prog="wardrobe data")
    commands = arguments.add_subparsers(required=True)
    checking = commands.add_parser("check")
    checking.set_defaults(run=check)
    checking.add_argument("file", type=Path)
    checking.add_argument("--valid", type=Path)
    checking.add_argument("--adapter", default="")
    checking.add_argument("--method", choices=sorted(Method))
    checking.add_argument("--price-per-hour", type=float)
    finding = commands.add_parser("find")
    finding.set_defaults(run=find)
    erasing = commands.add_parser("erase")
    erasing.set_defaults(run=erase)
    erasing.add_argument("--reason")
    erasing.add_argument("--retrain", action="store_true")
    for command in (checking, finding, erasing):
        command.add_argument("--unit", required=True)
        command.add_argument("--json", action="store_true")
    return arguments


def main(words: Sequence[str]) -> int:
    """What `wardrobe data` prints, and its exit code."""
    turn_telemetry_off()
    chosen = _arguments().parse_args(words)
    chosen.terms = sys.stdin  # read by those that look for a person
    settings = Settings()
    configure_logs(settings.log_level)
    try:
        with _desk(settings, chosen.unit) as desk:
            code, found, lines = chosen.run(desk, chosen)
    except WardrobeError as error:
        sys.stderr.write(f"error: {error.message} ({error.reason})\n")
        return 1
    said = [json.dumps(found, indent=1)] if chosen.json else list(lines)
    sys.stdout.write("".join(f"{line}\n" for line in said))
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
