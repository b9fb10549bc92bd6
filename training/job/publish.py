"""From what fine-tuning left to a published version: a clean directory that admission lets in, its
bytes in the store, its row in the registry.
"""

from __future__ import annotations

import errno
import platform
import shutil
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from adapters.admission.base_model import BaseShapes
from adapters.admission.checks import CONFIG_FILE, WEIGHTS_FILE, admit, canonicalise
from adapters.domain.data_policy import Balance
from adapters.domain.jobs import Job
from adapters.domain.names import Digest
from adapters.domain.recipes import Quantization
from adapters.domain.versions import Version
from adapters.errors import Rejected
from adapters.registry.ports import NewVersion
from adapters.signing_keys import signature_of
from adapters.store import ArtifactKind
from adapters.store.recording import record_artifact
from training.base.pedigree import read_pedigree
from training.evaluate.verdicts import GateFailed
from training.job.context import JobContext
from training.job.job_plan import JobPlan
from training.job.model_card import Card
from training.job.train import Trained

CARD_FILE = "README.md"
_DECIDING = ("wardrobe", "torch", "transformers", "peft", "tokenizers")
_NO_LINKS = {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP}


@dataclass(frozen=True, kw_only=True)
class Publishable:
    """An admitted directory and what the registry keeps of it."""

    directory: Path
    rank: int
    size_bytes: int


def publish(context: JobContext, job: Job, fence: int, plan: JobPlan, trained: Trained) -> Version:
    """The admitted adapter in the store, then its row. Raises StorageFull, GateFailed."""
    fine_tuned = trained.fine_tuned
    context.registry.jobs.trained(job.id, fence=fence, tokens=fine_tuned.trained_tokens)
    evidence = _evidence(context, plan, trained)
    card = Card(
        job_id=job.id,
        unit=job.unit,
        adapter=job.adapter,
        base_name=context.base.name,
        base_fingerprint=context.base.fingerprint,
        words=plan.unit.card,
        evidence=evidence,
        pedigree=read_pedigree(context.base.path),
        data_card=plan.dataset.card,
    )
    try:
        ready = prepare(
            fine_tuned.directory,
            context.workdir / "publish",
            card=card.text(),
            base=context.base.shapes,
            max_rank=plan.limits.max_lora_rank,
        )
    except Rejected as error:
        raise GateFailed(f"gate `artifact` said no: {error.message}") from error

    def put() -> Digest:
        return context.store.publish_adapter(ready.directory)

    digest = put()
    new = NewVersion(
        adapter=job.adapter,
        unit=job.unit,
        digest=digest,
        base_fingerprint=context.base.fingerprint,
        rank=ready.rank,
        size_bytes=ready.size_bytes,
        evidence=evidence,
    )
    new = replace(new, signature=signature_of(new, context.signer))
    return record_artifact(
        context.store,
        digest,
        ArtifactKind.ADAPTER,
        add_row=lambda: context.registry.versions.publish(new, job_id=job.id, fence=fence),
        put_again=put,
    )


def _evidence(context: JobContext, plan: JobPlan, trained: Trained) -> dict[str, Any]:
    """What is kept beside the version for whoever asks where it comes from."""
    start = plan.start.version if plan.start else None
    balance = plan.dataset.balance
    return {
        "data": {
            **_files(plan),
            **({"replay": trained.replay.evidence} if trained.replay.rows else {}),
            "dataset": plan.dataset.digest,
            "train_examples": plan.dataset.counts.train,
            "validation_examples": plan.dataset.counts.validation,
            "test_examples": plan.dataset.counts.test,
            **({"balance": str(balance)} if balance is not Balance.OFF else {}),
        },
        "recipe": trained.recipe.model_dump(mode="json"),
        "training": trained.fine_tuned.as_evidence(),
        **({"start": {"version": start.name, "digest": start.digest}} if start else {}),
        **trained.evidence,
        "base": {"name": context.base.name, "fingerprint": context.base.fingerprint},
        "environment": environment(
            engine=plan.limits.engine, quantization=trained.recipe.quantization
        ),
    }


def environment(*, engine: str, quantization: Quantization = Quantization.NONE) -> dict[str, str]:
    """What it was trained and is served with, as far as that decides numbers."""
    quantising = ("bitsandbytes",) if quantization is Quantization.NF4 else ()
    installed = {name: metadata.version(name) for name in (*_DECIDING, *quantising)}
    return {"python": platform.python_version(), "engine": engine, **installed}


def _files(plan: JobPlan) -> dict[str, Any]:
    """Digests of the uploads."""
    made_from = plan.dataset.made_from
    return {name: made_from[name] for name in ("training", "validation") if name in made_from}


def prepare(
    fine_tuned: Path, directory: Path, *, card: str, base: BaseShapes, max_rank: int
) -> Publishable:
    """Lays config, weights and card into a fresh `directory`. Raises Rejected, OSError.

    The same adapter and card give the same bytes, and so the same digest.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    shutil.copyfile(fine_tuned / CONFIG_FILE, directory / CONFIG_FILE)
    _link_or_copy(fine_tuned / WEIGHTS_FILE, directory / WEIGHTS_FILE)
    (directory / CARD_FILE).write_text(card, "utf-8")
    admitted = admit(directory, base=base, max_rank=max_rank)
    canonicalise(directory, admitted)
    size = sum(file.stat().st_size for file in directory.iterdir())
    return Publishable(directory=directory, rank=admitted.rank, size_bytes=size)


def _link_or_copy(source: Path, target: Path) -> None:
    """A link costs no room; some file systems have none."""
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(source, target)
