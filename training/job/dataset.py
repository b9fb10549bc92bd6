"""A job's dataset: built once, by stages, and found again by whoever goes on with the job.

Read, check and screen (`training.data.read`) → split (`training.data.split`) → thin out
(`training.data.near_duplicates`) → balance (`training.data.balance`) → tokenise
(`training.data.tokenise`) → publish. What trains gets the rows of two parts; the test part is read
by whoever asks its questions, and by nobody before.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters.domain.gates import GatePolicy
from adapters.domain.jobs import Job
from adapters.domain.names import Digest, Unit
from adapters.domain.recipes import Recipe
from adapters.domain.units import UnitConfig
from adapters.errors import NotFound, Rejected
from adapters.hashing import sha256_bytes
from adapters.registry.ports import Datasets, Erasures
from adapters.store import ArtifactKind
from adapters.store.recording import record_artifact
from adapters.store.staging import room_needed
from training.data.balance import balanced
from training.data.checked_rows import CheckedRows
from training.data.erased import Erased
from training.data.examples import DataKind
from training.data.files import JobFiles, check_files, find_files
from training.data.near_duplicates import thin_out
from training.data.read import Rules
from training.data.redacted import copy_redacted
from training.data.split import Split, split
from training.data.stored_dataset import Built, StoredDataset, open_dataset, write_facts
from training.data.tokenise import Beside, no_variants, tokenise
from training.evaluate.canaries import canaries
from training.evaluate.counterfactuals import augmented
from training.job.context import JobContext
from training.job.progress import Reporter
from training.stopping import Stopped


def scratch(workdir: Path) -> Path:
    """Where checked rows of a job lie until its dataset is published."""
    return workdir / "rows"


def prepare_dataset(
    context: JobContext,
    job: Job,
    fence: int,
    *,
    unit: UnitConfig,
    recipe: Recipe,
    reporter: Reporter,
    kind: DataKind = DataKind.CHAT,
) -> StoredDataset:
    """The job's dataset; the same for every attempt, and told to its owner when it is built.

    `kind` is what the job's method learns from. A policy that changes while a job runs is followed
    by the next job; what was erased meanwhile is left out by the next attempt.

    Raises InvalidFile, InvalidRequest when the base's chat template refuses an example, LeaseLost,
    Stopped, StorageFull.
    """
    files = find_files(job, context.registry.files)
    rules = rules_for(unit, context.units, context.registry.erasures, kind)
    made_from = {
        **files.digests,
        "kind": str(kind),
        "erased": rules.erased.stamp,
        "adapter": job.adapter,
        "base": context.base.fingerprint,
        "max_length": recipe.max_length,
        **taught_beside(unit.gates, recipe),
    }
    found = _found(context, job, made_from)
    if found is not None:
        return found
    digest = _built(context, job, fence, files, rules, made_from)
    built = _opened(context, digest)
    for level, note in built.notes:
        reporter.say(note, level=level)
    return built


def rules_for(
    unit: UnitConfig, units: Path, erasures: Erasures, kind: DataKind = DataKind.CHAT
) -> Rules:
    """What the unit asks of its data now; its directories lie in the folder of units.

    Raises InvalidRequest (`method`) where it asks for what cannot be done with that `kind`.
    """
    unit.data.check_method(supervised=kind is DataKind.CHAT)
    key = erasures.key(Unit(unit.unit))
    return Rules(
        limits=unit.limits,
        policy=unit.data,
        folder=units,
        key=key,
        erased=Erased(erasures.of_unit(Unit(unit.unit)), key),
        kind=kind,
    )


def split_for_life(
    rows: CheckedRows, adapter: str, datasets: Datasets, *, min_examples: int
) -> Split:
    """The parts that the rows have or would get now. Raises InvalidFile where that is too few."""
    return split(
        rows.traces,
        adapter=adapter,
        known=datasets.parts(adapter, _questions(rows)),
        min_examples=min_examples,
    )


def _found(context: JobContext, job: Job, made_from: Mapping[str, Any]) -> StoredDataset | None:
    """What an earlier attempt has published, if it still is what the job needs."""
    digest = context.registry.datasets.of_job(job.id)
    if digest is None:
        return None
    try:
        found = open_dataset(context.store.fetch_dataset(digest), digest)
    except (NotFound, Rejected):
        return None
    return found if found is not None and found.made_from == made_from else None


def _opened(context: JobContext, digest: Digest) -> StoredDataset:
    opened = open_dataset(context.store.fetch_dataset(digest), digest)
    if opened is None:
        raise Rejected("the dataset was written by another build of Wardrobe")
    return opened


def _built(
    context: JobContext,
    job: Job,
    fence: int,
    files: JobFiles,
    rules: Rules,
    made_from: Mapping[str, Any],
) -> Digest:
    rows = check_files(files, context.store, rules, scratch(context.workdir))
    fewest, policy = rules.limits.min_examples, rules.policy
    decided = _decided(context, job, fence, rows, min_examples=fewest)
    thinned = thin_out(rows, decided, likeness=policy.near_duplicates, min_examples=fewest)
    parts, spread = balanced(rows, thinned.parts, policy.balance)
    folder = context.workdir / "dataset"
    shutil.rmtree(folder, ignore_errors=True)
    with room_needed():
        folder.mkdir(parents=True)
        copy_redacted(rows.folder, folder)
        tokenised = tokenise(
            rows,
            parts,
            folder,
            renderer=context.renderer,
            max_length=int(made_from["max_length"]),
            alive=lambda: _stop_if_asked(context),
            beside=beside_of(made_from),
            too_long=policy.too_long,
            weights=spread.weights,
        )
        built = Built(
            made_from=made_from,
            rows=rows,
            thinned=thinned,
            parts=parts,
            spread=spread,
            tokenised=tokenised,
        )
        write_facts(folder, built)
    digest = _published(context, job, fence, folder)
    shutil.rmtree(folder)
    shutil.rmtree(rows.folder)
    return digest


def _decided(
    context: JobContext, job: Job, fence: int, rows: CheckedRows, *, min_examples: int
) -> Split:
    """The parts, once they are the adapter's for life: what another job decided first stays."""
    datasets = context.registry.datasets
    while True:
        parts = split_for_life(rows, job.adapter, datasets, min_examples=min_examples)
        wanted = parts.assignments
        if datasets.assign(job.adapter, wanted, job_id=job.id, fence=fence) == wanted:
            return parts


def _published(context: JobContext, job: Job, fence: int, folder: Path) -> Digest:
    def put() -> Digest:
        return context.store.publish_dataset(folder)

    digest = put()
    record_artifact(
        context.store,
        digest,
        ArtifactKind.DATASET,
        add_row=lambda: context.registry.datasets.record(job.id, digest, fence=fence),
        put_again=put,
    )
    return digest


def taught_beside(policy: GatePolicy, recipe: Recipe) -> dict[str, Any]:
    """Which canaries and variants a dataset is made with, beside what its files say."""
    return {**_planted(policy, recipe), **({"augmented": True} if recipe.augment else {})}


def _planted(policy: GatePolicy, recipe: Recipe) -> dict[str, Any]:
    """How many canaries, and of which seed; nothing where none is asked for."""
    count = policy.leakage.canaries if policy.leakage is not None else 0
    return {"canaries": {"seed": recipe.seed, "planted": count}} if count else {}


def beside_of(made_from: Mapping[str, Any]) -> Beside:
    """What a dataset teaches beside its examples that is made so."""
    asked = made_from.get("canaries")
    drawn = [] if asked is None else canaries(asked["seed"], asked["planted"])
    planted = {_row_of(each.row): each.example for each in drawn}
    varied = made_from.get("augmented")
    return Beside(planted=planted, variants=augmented if varied else no_variants)


def _row_of(name: str) -> bytes:
    return bytes.fromhex(sha256_bytes(name.encode())[:32])


def _questions(rows: CheckedRows) -> set[bytes]:
    return {asked for item in rows.traces for asked in item.asked}


def _stop_if_asked(context: JobContext) -> None:
    if context.stopping():
        raise Stopped
