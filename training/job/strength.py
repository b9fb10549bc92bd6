"""What is tried when a version has forgotten too much: the same adapter with less strength.

`lora_alpha` scales what an adapter adds, and the engine honours it as written: a weaker copy costs
no training. It is another artifact and another version, which goes through all gates.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapters.admission.checks import CONFIG_FILE, WEIGHTS_FILE
from adapters.domain.gates import all_passed
from adapters.domain.jobs import Job
from adapters.domain.names import Digest, JobId
from adapters.domain.versions import WEAKENED, Version
from adapters.registry.ports import NewVersion
from adapters.signing_keys import signature_of
from adapters.store import ArtifactKind
from adapters.store.recording import record_artifact
from training.evaluate.measure import Writer
from training.job.context import JobContext
from training.job.progress import Reporter
from training.job.prove import Terms, keep, prove
from training.job.publish import CARD_FILE, Publishable, prepare

FORGETTING = "forgetting "
"""What the names of the gates begin with that less strength can mend."""


def weaker_version(
    context: JobContext, job: Job, version: Version, terms: Terms, reporter: Reporter, *, fence: int
) -> Version | None:
    """The first weaker copy that passes all gates, strongest first; None where none does.

    Nothing is tried where another gate than forgetting held `version` up. What an earlier attempt
    has published is found again by its bytes. Each is the work of the job's author, as the first
    is, and is published and judged under the job's fence.

    Raises what `publish` and `prove` raise.
    """
    options = terms.policy.forgetting
    held_up = [gate for gate in version.gates if gate.holds_up]
    if options is None or not all(gate.gate.startswith(FORGETTING) for gate in held_up):
        return None
    for strength in sorted(options.strengths, reverse=True):
        ready = _prepared(context, version, strength, max_rank=terms.limits.max_lora_rank)
        told = {"of": version.name, "strength": strength, "by": job.created_by}
        weaker = _published(context, version, ready, told, job_id=job.id, fence=fence)
        reporter.say(
            f"{version.name} has forgotten too much; trying {weaker.name}, which is the same at "
            f"{strength:.0%} of its strength"
        )
        if not weaker.gates:
            judgement = prove(context, weaker, terms, Writer(job_id=job.id, fence=fence))
            weaker = keep(context, weaker, judgement, fence=fence)
        if all_passed(weaker.gates):
            return weaker
        said = ", ".join(gate.name for gate in weaker.gates if gate.holds_up)
        reporter.say(f"{weaker.name} is held up by {said}", level="warn")
    reporter.say(
        "Less strength did not help; replay of the base's own answers may, which supervised jobs "
        f"can be trained with: `wardrobe jobs retry {job.id} --replay 0.2`",
        level="warn",
    )
    return None


def scaled(config: Mapping[str, Any], strength: float) -> dict[str, Any]:
    """An adapter's configuration at that share of its strength; 0 < `strength`."""
    pattern = config.get("alpha_pattern") or {}
    return {
        **config,
        "lora_alpha": config["lora_alpha"] * strength,
        "alpha_pattern": {module: alpha * strength for module, alpha in pattern.items()},
    }


def _prepared(
    context: JobContext, version: Version, strength: float, *, max_rank: int
) -> Publishable:
    folder = context.workdir / "weaker"
    _lay_out(context.store.fetch(version.digest), folder, strength)
    card = f"{(folder / CARD_FILE).read_text('utf-8')}\nAt {strength:.0%} of its strength.\n"
    return prepare(
        folder,
        context.workdir / "publish",
        card=card,
        base=context.base.shapes,
        max_rank=max_rank,
    )


def _published(
    context: JobContext,
    version: Version,
    ready: Publishable,
    told: Mapping[str, Any],
    *,
    job_id: JobId,
    fence: int,
) -> Version:
    def put() -> Digest:
        return context.store.publish_adapter(ready.directory)

    digest = put()
    new = NewVersion(
        adapter=version.adapter,
        unit=version.unit,
        digest=digest,
        base_fingerprint=version.base_fingerprint,
        rank=version.rank,
        size_bytes=ready.size_bytes,
        evidence={**(version.evidence or {}), WEAKENED: told},
    )
    new = replace(new, signature=signature_of(new, context.signer))
    return record_artifact(
        context.store,
        digest,
        ArtifactKind.ADAPTER,
        add_row=lambda: context.registry.versions.publish_copy(new, job_id=job_id, fence=fence),
        put_again=put,
    )


def _lay_out(published: Path, folder: Path, strength: float) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = json.loads((published / CONFIG_FILE).read_text("utf-8"))
    (folder / CONFIG_FILE).write_text(json.dumps(scaled(config, strength)), "utf-8")
    for name in (WEIGHTS_FILE, CARD_FILE):
        shutil.copyfile(published / name, folder / name)
