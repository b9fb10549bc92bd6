"""What a job will do, decided before a minute is spent on training."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from adapters.domain.jobs import Job
from adapters.domain.recipes import Recipe, base_overrides, resolve
from adapters.domain.units import UnitConfig
from adapters.errors import InvalidRequest
from training.base.base_fit import advised, suited
from training.data.preferences import KIND_OF
from training.data.stored_dataset import StoredDataset
from training.evaluate.scorers import scorers_of
from training.job.context import JobContext
from training.job.dataset import prepare_dataset
from training.job.progress import Reporter
from training.job.service_limits import ServiceLimits, check_signed, fit, wait_for_limits
from training.job.starting_point import StartingPoint, settle_start, starting_point
from training.job.unit_of_job import wait_for_unit


@dataclass(frozen=True, kw_only=True)
class JobPlan:
    """What a job will do, once its unit, the service and its data have been asked."""

    unit: UnitConfig
    limits: ServiceLimits
    recipe: Recipe
    dataset: StoredDataset
    start: StartingPoint | None = None
    """The version that is trained further; None is the base, or that nothing is left to train."""


def plan_job(context: JobContext, job: Job, fence: int, reporter: Reporter) -> JobPlan:
    """Asks the unit, the service and the data; the same for every attempt.

    Raises InvalidFile, InvalidRequest, Conflict (`base_mismatch`, `signing_key_missing`,
    `signature_untrusted`), NotFound, Unavailable, LeaseLost, Stopped, StorageFull.
    """
    unit = wait_for_unit(context.units, job.unit, clock=context.clock, pause=context.pause)
    limits = wait_for_limits(
        context.registry.replicas,
        context.base.fingerprint,
        clock=context.clock,
        pause=context.pause,
    )
    # what nobody would load, and what cannot score, is said before training
    check_signed(limits.trusted_keys, context.signer.key_id if context.signer else None)
    scorers_of(unit.gates, context.units, ())
    recipe = fit(_recipe(context, job, unit, reporter), limits)
    kind = KIND_OF[recipe.method]
    published = context.registry.versions.of_job(job.id) is not None
    start = None if published else starting_point(context, job, recipe)
    dataset = prepare_dataset(
        context, job, fence, unit=unit, recipe=recipe, reporter=reporter, kind=kind
    )
    return JobPlan(unit=unit, limits=limits, recipe=recipe, dataset=dataset, start=start)


def _recipe(context: JobContext, job: Job, unit: UnitConfig, reporter: Reporter) -> Recipe:
    """What the first attempt decided, whatever the configuration says since."""
    base = context.base
    if job.resolved is None:
        recipe = resolve(
            base=advised(base_overrides(base.path), base.shapes),
            unit=unit.recipe,
            job=job.hyperparameters,
            asked=job.recipe,
            seed=None if job.seed_drawn and unit.recipe.seed is not None else job.seed,
        )
        suitable = suited(recipe, base.shapes, base.path)
        return settle_start(context, job, suitable, reporter.say)
    try:
        return Recipe.model_validate(job.resolved)
    except ValidationError as error:
        raise InvalidRequest(
            "the job was begun by another build of Wardrobe with settings that this one does not "
            "know; start a new job",
            code="invalid_recipe",
        ) from error
