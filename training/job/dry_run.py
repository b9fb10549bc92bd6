"""`python -m training.job.dry_run ftjob-…`, with WARDROBE_* settings.

Ends a job that asked for a dry run: all its data stages run, nothing is trained, and its event
`data_report` tells every problem, or the tokens, steps, time and cost to expect. A process of its
own, because it needs the base's tokenizer; killed at any point, it runs again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog

from adapters.admission.base_model import BaseModel, load_base_model
from adapters.domain.jobs import Job, JobError, JobStatus
from adapters.domain.names import JobId
from adapters.domain.principals import SYSTEM
from adapters.domain.recipes import Recipe, base_overrides, resolve
from adapters.domain.units import InvalidUnits, UnitConfig, Units, load_units
from adapters.errors import (
    Conflict,
    InvalidFile,
    InvalidRequest,
    StorageFull,
    Unavailable,
    WardrobeError,
)
from adapters.logs import configure_logs
from adapters.registry import Registry
from adapters.registry.open import open_registry
from adapters.settings import Settings
from adapters.store import ArtifactStore
from adapters.store.open import open_store
from adapters.telemetry_off import turn_telemetry_off
from training.base.base_fit import advised, suited
from training.data.files import FILE_PARAMS, find_files, openers
from training.data.jsonl import Problem
from training.data.preferences import KIND_OF
from training.data.render import ChatRenderer, Renderer
from training.job.check_data import Offer, Report, check_data
from training.job.dataset import rules_for, taught_beside
from training.job.order import AGAIN
from training.job.pace import nobody_knows, pace, speed_of_a_job
from training.job.service_limits import common_limits, fit, reporting
from training.job.starting_point import settle_start, starting_point

_MILLION = 1_000_000
_RECIPE = "recipe"
_REFUSED = (InvalidRequest, Conflict)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What a dry run works with."""

    registry: Registry
    store: ArtifactStore
    units: Units
    base: BaseModel
    renderer: Renderer
    workdir: Path
    price: float = 0.0
    """Of a million trained tokens; 0: nobody has said one."""
    products_per_second: Callable[[], float | None] = nobody_knows
    """As `training.job.pace.pace` takes it."""


def dry_run(bench: Bench, job: Job) -> None:
    """Checks the job's files and ends it. One that was cancelled meanwhile is left alone.

    Raises Unavailable, StorageFull, OSError.
    """
    jobs = bench.registry.jobs
    failure: JobError | None
    try:
        report = report_of(bench, job)
    except (Unavailable, StorageFull):
        raise
    except WardrobeError as error:  # of the unit's policy or recipe, not of the files
        jobs.say(job.id, error.message, level="error")
        failure = JobError(code=error.reason, message=error.message, param=error.param)
    else:
        failure = _failure(report)
        for line in report.as_lines() if report.usable else ():
            jobs.say(job.id, line)
        said = failure.message if failure else "The files can be trained on"
        level = "error" if failure else "info"
        jobs.say(job.id, said, level=level, type="data_report", data=report.as_json())
    try:
        jobs.accept(job.id, error=failure)
    except Conflict:
        _log.info("job_moved_meanwhile", job=job.id)


def report_of(bench: Bench, job: Job) -> Report:
    """What a job of these files would find. Raises InvalidRequest, Unavailable."""
    base, registry, unit = bench.base, bench.registry, bench.units.get(job.unit)
    recipe, mistakes = _recipe(bench, job, unit)
    offer = Offer(
        adapter=job.adapter,
        recipe=recipe,
        renderer=bench.renderer,
        base=base.fingerprint,
        known=lambda asked: registry.datasets.parts(job.adapter, asked),
        beside=taught_beside(unit.gates, recipe),
        pace=pace(registry.versions, base, bench.products_per_second),
    )
    rules = rules_for(unit, bench.units.folder, registry.erasures, KIND_OF[recipe.method])
    try:
        files = openers(find_files(job, registry.files), bench.store)
    except InvalidFile as gone:
        return Report.refused(gone.param, gone.message).also(mistakes)
    report = check_data(files, rules, offer, workdir=bench.workdir)
    return _priced(report.also(mistakes), bench.price)


def _recipe(bench: Bench, job: Job, unit: UnitConfig) -> tuple[Recipe, list[Problem]]:
    """What a job would train by, and why it could not: told together with the files' problems.

    Raises InvalidRequest where the settings make no recipe at all.
    """
    base = bench.base
    recipe = resolve(
        base=advised(base_overrides(base.path), base.shapes),
        unit=unit.recipe,
        job=job.hyperparameters,
        asked=job.recipe,
    )
    settled = settle_start(bench, job, recipe, lambda said: _say(bench, job, said))
    mistakes = [
        *_mistakes(lambda: suited(settled, base.shapes, base.path)),
        *_mistakes(lambda: starting_point(bench, job, settled)),
    ]
    try:
        return _fit(bench, settled), mistakes
    except _REFUSED as error:
        return settled, [*mistakes, _problem(error)]


def _say(bench: Bench, job: Job, message: str) -> None:
    bench.registry.jobs.say(job.id, message)


def _fit(bench: Bench, recipe: Recipe) -> Recipe:
    """As the service can serve it; as it is where no replica reports, for which a job would wait.

    Raises InvalidRequest, Conflict.
    """
    found = reporting(bench.registry.replicas)
    return fit(recipe, common_limits(found, bench.base.fingerprint)) if found else recipe


def _mistakes(check: Callable[[], object]) -> list[Problem]:
    """The one that `check` meets, if any."""
    try:
        check()
    except _REFUSED as error:
        return [_problem(error)]
    return []


def _problem(error: WardrobeError) -> Problem:
    return Problem(param=error.param or _RECIPE, line=None, what=error.message)


def _priced(report: Report, price: float) -> Report:
    if report.expected is None or not price:
        return report
    cost = round(report.expected.tokens * price / _MILLION, 6)
    return replace(report, expected=replace(report.expected, cost=cost))


def _failure(report: Report) -> JobError | None:
    if report.usable:
        return None
    first = report.problems[0]
    more = f"; {report.problem_count} problems in all" if report.problem_count > 1 else ""
    what = first.param.replace("_", " ").capitalize()
    code = f"invalid_{first.param if first.param in FILE_PARAMS else _RECIPE}"
    return JobError(code=code, message=f"{what}: {first}{more}", param=first.param)


@contextmanager
def _bench(settings: Settings, job_id: JobId) -> Iterator[Bench]:
    base = Path(settings.base)
    registry = open_registry(settings.registry_url)
    try:
        yield Bench(
            registry=registry,
            store=open_store(settings),
            units=load_units(settings.units),
            base=load_base_model(base, name=settings.base_name or base.name, cache=settings.cache),
            renderer=ChatRenderer(base),
            workdir=settings.state_folder.job(job_id) / "check",
            price=settings.price_training,
            products_per_second=partial(speed_of_a_job, settings),
        )
    finally:
        registry.close()


def main(words: list[str]) -> int:
    """0 once the job has ended, whatever was found."""
    turn_telemetry_off()
    settings = Settings()
    configure_logs(settings.log_level)
    os.nice(settings.train_niceness)
    try:
        with _bench(settings, JobId(words[0])) as bench:
            job = bench.registry.jobs.get(JobId(words[0]), SYSTEM)
            if job.dry_run and job.status is JobStatus.VALIDATING_FILES:
                dry_run(bench, job)
    except (Unavailable, StorageFull, InvalidUnits) as error:  # a typo is no mistake of the job's
        _log.warning("dry_run_interrupted", reason=error.message)
        return AGAIN
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
