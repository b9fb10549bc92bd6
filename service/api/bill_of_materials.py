"""A version as a CycloneDX 1.6 bill of materials: the model, its base, its data and its tools.

The same version gives the same bill, but for what is added to it: gates, approvals, its state.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from adapters.domain.gates import Outcome
from adapters.domain.units import CardWords
from adapters.domain.versions import IMPORT, Version, signed_by
from service.api.whole_card import Known

Json = dict[str, Any]

_NAMESPACE = uuid.UUID("6f1b8a3e-6a0e-5d0a-9a55-0a2f5c1f6a11")
_BASE, _DATASET = "base", "dataset"
_OURS = "wardrobe"


def bill_of_materials(known: Known, words: CardWords) -> Json:
    """`application/vnd.cyclonedx+json`."""
    version = known.version
    components = list(_components(version))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, f'{version.name}@{version.digest}')}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(version.created_at, UTC).isoformat(),
            "component": _model(known, words),
        },
        "components": components,
        "dependencies": [
            {"ref": version.name, "dependsOn": [each["bom-ref"] for each in components]}
        ],
    }


def _model(known: Known, words: CardWords) -> Json:
    version = known.version
    return {
        "type": "machine-learning-model",
        "bom-ref": version.name,
        "name": version.adapter,
        "version": str(version.number),
        "group": version.unit,
        "description": f"LoRA adapter of rank {version.rank}",
        "hashes": [_sha256(version.digest)],
        "modelCard": _card(version, words),
        "properties": [
            {"name": f"{_OURS}:{name}", "value": value} for name, value in _properties(known)
        ],
    }


def _card(version: Version, words: CardWords) -> Json:
    parameters: Json = {
        "approach": {"type": "supervised"},
        "task": "text-generation",
        "architectureFamily": "transformer",
        "modelArchitecture": "LoRA",
        "inputs": [{"format": "text"}],
        "outputs": [{"format": "text"}],
    }
    if _data(version):
        parameters["datasets"] = [{"ref": _DATASET}]
    considerations = {
        "useCases": [words.intended_use] if words.intended_use else [],
        "technicalLimitations": [words.limits] if words.limits else [],
    }
    return {
        "modelParameters": parameters,
        "quantitativeAnalysis": {"performanceMetrics": list(_metrics(version))},
        "considerations": {name: said for name, said in considerations.items() if said},
    }


def _metrics(version: Version) -> Iterator[Json]:
    for gate in version.gates:
        if gate.outcome in (Outcome.PASSED, Outcome.FAILED):
            yield {"type": gate.name, "value": f"{gate.measured:g}", "slice": "test"}


def _properties(known: Known) -> Iterator[tuple[str, str]]:
    """What CycloneDX has no words for; what is not known is left out."""
    version, cost = known.version, known.cost
    money = None if cost.money is None else f"{cost.money:g} {cost.currency}"
    told: Mapping[str, object] = {
        "state": version.state.value,
        "job": known.job.id if known.job else version.job_id,
        "weaker_copy_of": version.weaker_copy_of,
        "author": known.author,
        "signed_by": signed_by(version.signature),
        "cost:seconds": cost.seconds,
        "cost:trained_tokens": cost.tokens,
        "cost:money": money,
        IMPORT: "made elsewhere" if version.imported else None,
        **{f"recipe:{name}": said for name, said in sorted(_part(version, "recipe").items())},
        **{f"gate:{gate.name}": gate.outcome.value for gate in version.gates},
        **{f"approval:{said.actor}": said.verdict.value for said in known.approvals},
    }
    for name, value in told.items():
        if value is not None:
            yield name, str(value)


def _components(version: Version) -> Iterator[Json]:
    base = _part(version, "base")
    yield {
        "type": "machine-learning-model",
        "bom-ref": _BASE,
        "name": str(base.get("name", "base model")),
        # of its files' digests, not of one file
        "properties": [{"name": f"{_OURS}:fingerprint", "value": version.base_fingerprint}],
    }
    data = _data(version)
    if data:
        yield {
            "type": "data",
            "bom-ref": _DATASET,
            "name": f"dataset of {version.name}",
            "hashes": [_sha256(data["dataset"])],
            "data": [{"type": "dataset", "name": f"dataset of {version.name}"}],
            "properties": [
                {"name": f"{_OURS}:{name}", "value": str(value)}
                for name, value in sorted(data.items())
                if name != "dataset"
            ],
        }
    for name, installed in sorted(_part(version, "environment").items()):
        if name in ("engine", "python"):
            yield {"type": "platform", "bom-ref": name, "name": name, "version": str(installed)}
        else:
            yield {
                "type": "library",
                "bom-ref": name,
                "name": name,
                "version": str(installed),
                "purl": f"pkg:pypi/{name}@{str(installed).replace('+', '%2B')}",
            }


def _data(version: Version) -> Mapping[str, Any]:
    """What of the evidence tells the dataset; nothing of what was imported."""
    found = _part(version, "data")
    return found if "dataset" in found else {}


def _part(version: Version, name: str) -> Mapping[str, Any]:
    found = (version.evidence or {}).get(name)
    return found if isinstance(found, Mapping) else {}


def _sha256(digest: str) -> Json:
    return {"alg": "SHA-256", "content": digest}
