"""One fine-tuning job, top to bottom: this file reads as its specification.

The trainer runs it in a child process. It may be killed at any point and run again under a higher
fence: it goes on from its checkpoints, publishes at most one version, and lands the job in a final
state.
"""

from __future__ import annotations

import errno
from dataclasses import asdict

import structlog

from adapters.domain.gates import GatePolicy, all_passed
from adapters.domain.jobs import Job, JobError, JobStatus
from adapters.domain.names import JobId
from adapters.domain.principals import SYSTEM
from adapters.domain.recipes import Recipe
from adapters.domain.versions import Version
from adapters.errors import (
    LeaseLost,
    NotFound,
    StorageFull,
    Unavailable,
    WardrobeError,
)
from training.evaluate.measure import Writer
from training.evaluate.verdicts import GateFailed, in_words, refusal
from training.job.context import JobContext
from training.job.job_plan import plan_job
from training.job.progress import Reporter
from training.job.promote import NotPromoted, Promoter
from training.job.prove import Terms, keep, prove
from training.job.publish import publish
from training.job.result_files import keep_results, kept_results, results_of
from training.job.strength import weaker_version
from training.job.tracking import TrackedRun, tracking
from training.job.train import train
from training.job.unit_of_job import wait_for_unit

END_PATIENCE = 600.0
"""Seconds to wait for a registry that cannot take the job's end now."""

_log = structlog.get_logger(__name__)


def run_job(context: JobContext, job_id: JobId, fence: int) -> None:
    """Runs a leased job to a final state. Raises LeaseLost, Stopped, and what nobody foresaw."""
    reporter = Reporter(context.registry.jobs, job_id, fence, scratch=context.workdir)
    job = context.registry.jobs.get(job_id, SYSTEM)
    try:
        version = _run(context, job, fence, reporter)
    except LeaseLost:
        raise
    except (WardrobeError, OSError, MemoryError) as error:
        if isinstance(error, Unavailable) and error.reason == "registry_unavailable":
            raise  # says nothing about the job; the trainer tries again
        why = _as_job_error(error)
        reporter.say(why.message, level="error")
        _end(context, job, fence, JobStatus.FAILED, error=why)
        return
    reporter.say(f"New fine-tuned model created: {version.name}")
    _end(context, job, fence, JobStatus.SUCCEEDED, fine_tuned_model=version.name)
    reporter.say("Fine tuning job successfully completed")


def _run(context: JobContext, job: Job, fence: int, reporter: Reporter) -> Version:
    """Ask → read → train → publish → prove → promote. What an earlier attempt did is not redone."""
    reporter.say("Fine-tuning job started" if job.attempts < 2 else "Fine-tuning job resumed")
    plan = plan_job(context, job, fence, reporter)
    context.registry.jobs.resolve(job.id, fence=fence, recipe=plan.recipe.model_dump(mode="json"))

    version = context.registry.versions.of_job(job.id)
    if version is None:
        with tracking(context.trackers, _tracked(context, job, plan.recipe)) as track:
            trained = train(context, plan, reporter, also=track)
        version = publish(context, job, fence, plan, trained)
        reporter.say(f"Published {version.name} as a candidate; evaluating it through the service")
    terms = Terms(policy=plan.unit.gates, limits=plan.limits, dataset=plan.dataset.digest)
    if not version.gates:
        judgement = prove(context, version, terms, Writer(job_id=job.id, fence=fence))
        version = keep(context, version, judgement, fence=fence)
    _tell(version, reporter)
    if not all_passed(version.gates):
        weaker = weaker_version(context, job, version, terms, reporter, fence=fence)
        if weaker is not None:
            version = weaker
            reporter.say(in_words(version))
    results = results_of(
        job,
        reporter.curve(),
        data_card=plan.dataset.data_card,
        tensorboard=context.tensorboard,
    )
    keep_results(job, results, files=context.registry.files, store=context.store)

    if not all_passed(version.gates):
        raise GateFailed(refusal(version))
    if plan.unit.gates.promote != "manual":
        _promote(context, job, version, reporter, plan.unit.gates)
    return version


def _tracked(context: JobContext, job: Job, recipe: Recipe) -> TrackedRun:
    values = recipe.model_dump(mode="json", exclude_none=True)
    return TrackedRun(
        job_id=job.id,
        names={"unit": job.unit, "adapter": job.adapter, "base": context.base.name},
        recipe={
            name: value if isinstance(value, int | float) else str(value)
            for name, value in values.items()
        },
    )


def _tell(version: Version, reporter: Reporter) -> None:
    reporter.gate_checks(
        in_words(version),
        {"version": version.name, "gates": [asdict(gate) for gate in version.gates]},
        passed=all_passed(version.gates),
    )


def _promote(
    context: JobContext, job: Job, version: Version, reporter: Reporter, policy: GatePolicy
) -> None:
    promoter = Promoter(
        versions=context.registry.versions,
        routes=context.registry.routes,
        rollouts=context.registry.rollouts,
        canaries=context.registry.canaries,
        plan=policy.canary_plan,
        clock=context.clock,
        pause=context.pause,
    )
    try:
        _check_alias(context, version)
        promotion = promoter.promote(version, job.principal)
    except NotPromoted as reason:
        reporter.say(f"{version.name} was not put live: {reason}", level="warn")
        return
    said = f"{version.name} is live as {version.adapter}"
    if promotion.weight is not None:
        said = (
            f"{version.name} answers {promotion.weight:g}% of {version.adapter} as a canary, by "
            "the unit's schedule"
        )
    if promotion.waits_for:
        _log.warning("flip_not_observed", version=version.name, replicas=list(promotion.waits_for))
        said += f"; {len(promotion.waits_for)} silent replicas may still answer as before"
    reporter.say(said, level="warn" if promotion.waits_for else "info")


def _check_alias(context: JobContext, version: Version) -> None:
    """Raises NotPromoted where the alias went to another unit, or its unit away, meanwhile."""
    try:
        unit = wait_for_unit(context.units, version.unit, clock=context.clock, pause=context.pause)
    except NotFound as gone:
        raise NotPromoted(gone.message) from gone
    if version.adapter not in unit.aliases:
        raise NotPromoted(f"the alias {version.adapter} is not this unit's any more")
    if unit.gates.approval == "second_person":
        raise NotPromoted(
            f"it waits for the approval of a second person (`wardrobe approve {version.name}`), "
            "then for a promotion"
        )


def _as_job_error(error: WardrobeError | OSError | MemoryError) -> JobError:
    """Why the job failed, for its owner. Raises an OSError that nobody foresaw."""
    if isinstance(error, MemoryError):
        return JobError(
            code="out_of_memory",
            message="the job's process has too little memory for its data; give it more "
            "(WARDROBE_TRAIN_MEMORY_GIB, or the trainer's own limit), then start a new job",
        )
    if isinstance(error, OSError):
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise error
        error = StorageFull("the trainer's disk has no room left; free some, then start a new job")
    return JobError(code=error.reason, message=error.message, param=error.param)


def _end(
    context: JobContext,
    job: Job,
    fence: int,
    status: JobStatus,
    *,
    error: JobError | None = None,
    fine_tuned_model: str | None = None,
) -> None:
    """Lands the job, once the registry can take it. Raises LeaseLost, Stopped."""
    until = context.clock() + END_PATIENCE
    while True:
        try:
            context.registry.jobs.finish(
                job.id,
                status,
                fence=fence,
                error=error,
                fine_tuned_model=fine_tuned_model,
                result_files=kept_results(job, context.registry.files),
            )
            return
        except (Unavailable, StorageFull):
            if context.clock() >= until:
                raise
        context.pause()
