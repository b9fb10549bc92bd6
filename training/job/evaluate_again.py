"""`python -m training.job.evaluate_again support:3`, with WARDROBE_* settings.

Evaluates a version again without training it again: asks the service for its answers to the test
part, adds the evaluations, computes the gates anew and keeps them beside the version.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from adapters.domain.gates import all_passed
from adapters.domain.jobs import Job
from adapters.domain.names import parse_version
from adapters.domain.principals import SYSTEM
from adapters.domain.versions import Version
from adapters.errors import InvalidRequest, WardrobeError
from adapters.logs import configure_logs
from adapters.registry.origin import job_behind
from adapters.registry.transitions.versions import check_judged_again
from adapters.settings import Settings
from adapters.telemetry_off import turn_telemetry_off
from training.evaluate.measure import Writer
from training.evaluate.verdicts import told
from training.finetune.fine_tuner import import_slow_modules
from training.job.context import JobContext
from training.job.job_process import real_context
from training.job.prove import Terms, prove
from training.job.service_limits import wait_for_limits
from training.job.unit_of_job import wait_for_unit


def evaluate_again(context: JobContext, name: str) -> Version:
    """The version with its new verdicts.

    What was imported is measured by the test part of its adapter's newest job. Raises
    InvalidRequest where there is nothing to measure it by, Conflict where it is rejected, retired
    or still being judged, and what `prove` raises.
    """
    registry = context.registry
    version = registry.versions.get(*parse_version(name), SYSTEM)
    job_id = job_behind(registry, version)
    if job_id is None and not version.imported:
        raise InvalidRequest(
            f"no job has made {name}, so there is no test part to evaluate it on",
            param="version",
        )
    job = None if job_id is None else registry.jobs.get(job_id, SYSTEM)
    check_judged_again(version, job)
    judgement = prove(context, version, _terms(context, version, job), Writer(), anew=True)
    judged = registry.versions.judge_again(version.id, judgement.gates, evidence=judgement.evidence)
    if job is not None:
        level = "info" if all_passed(judged.gates) else "warn"
        registry.jobs.say(job.id, f"Evaluated {name} again", level=level)
    return judged


def _terms(context: JobContext, version: Version, job: Job | None) -> Terms:
    """The unit's policy of today, and the test part of the job that made the version; of what was
    imported, that of the adapter's newest job.
    """
    datasets = context.registry.datasets
    dataset = datasets.newest(version.adapter) if job is None else datasets.of_job(job.id)
    if dataset is None:
        why = (
            f"{version.adapter} has no test part yet: a job with data for it makes one"
            if job is None
            else f"the dataset of {version.name} is not kept: it was made by an earlier build"
        )
        raise InvalidRequest(why, param="version")
    waiting: dict[str, Any] = {"clock": context.clock, "pause": context.pause}
    return Terms(
        policy=wait_for_unit(context.units, version.unit, **waiting).gates,
        limits=wait_for_limits(context.registry.replicas, context.base.fingerprint, **waiting),
        dataset=dataset,
    )


def main(words: list[str]) -> int:
    """0 where the gates let the version pass."""
    turn_telemetry_off()
    settings = Settings()
    configure_logs(settings.log_level)
    import_slow_modules()
    try:
        workdir = settings.state_folder.job("evaluate-again")
        with real_context(settings, workdir, threading.Event()) as context:
            judged = evaluate_again(context, words[0])
    except WardrobeError as error:
        sys.stderr.write(f"error: {error.message} ({error.reason})\n")
        return 1
    for line in told(judged):
        sys.stdout.write(f"{line}\n")
    return 0 if all_passed(judged.gates) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
