"""What the service can serve, asked before a minute is spent on training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from adapters.domain.names import Digest
from adapters.domain.recipes import Recipe
from adapters.errors import Conflict, InvalidRequest, Unavailable
from adapters.registry.ports import Replica, Replicas
from adapters.registry.ports.replicas import TRUSTED_KEYS

PATIENCE = 1800.0
"""Seconds a running job waits for a service that is not ready: a slow machine's restart takes
minutes, and so may the loading of a large base."""


@dataclass(frozen=True, kw_only=True)
class ServiceLimits:
    """The least of what all replicas can do."""

    max_lora_rank: int
    max_model_len: int
    dtype: str = "unknown"
    """In which the replicas compute; several where they differ."""
    engine: str = "unknown"
    """Name and version; several where they differ."""
    trusted_keys: frozenset[str] | None = None
    """Ids of the keys of which one must have signed a version; None where replicas ask for none."""


def reporting(replicas: Replicas) -> Sequence[Replica]:
    """Replicas that were heard lately.

    Whether one is ready is not asked: that is about one unit's live version as much as about
    another's, and each unit's jobs run whatever has become of the others.
    """
    return [replica for replica in replicas.list() if replica.reporting]


def common_limits(found: Sequence[Replica], base: Digest) -> ServiceLimits:
    """What every replica can serve. Raises Conflict (`base_mismatch`) when none has our base."""
    alike = [replica for replica in found if replica.base_fingerprint == base]
    if not alike:
        raise Conflict(
            "the service runs another base model than the trainer has; give both the same base "
            "(WARDROBE_BASE) and start the job again",
            code="base_mismatch",
        )
    return ServiceLimits(
        max_lora_rank=min(int(replica.limits["max_lora_rank"]) for replica in alike),
        max_model_len=min(int(replica.limits["max_model_len"]) for replica in alike),
        dtype=_said(alike, "dtype"),
        engine=_said(alike, "engine"),
        trusted_keys=trusted_by_all(alike),
    )


def trusted_by_all(replicas: Sequence[Replica]) -> frozenset[str] | None:
    """The keys that count at each replica that requires signatures; None where none requires them.

    Replicas of another build may not say it.
    """
    asked = [each.limits.get(TRUSTED_KEYS) for each in replicas]
    required = [frozenset(keys) for keys in asked if keys is not None]
    return frozenset.intersection(*required) if required else None


def check_signed(trusted: frozenset[str] | None, key_id: str | None) -> None:
    """Raises Conflict where no replica would load what is signed with this key, or not at all."""
    if trusted is None or key_id in trusted:
        return
    if key_id is None:
        raise Conflict(
            "the replicas load signed versions only, and the trainer has no key to sign with: "
            "bring it one that they trust (WARDROBE_SIGNING_KEY_FILE), then start the job again",
            code="signing_key_missing",
        )
    raise Conflict(
        f"the trainer signs with the key {key_id}, which not every replica trusts: give them its "
        "public half (WARDROBE_TRUSTED_KEYS), or the trainer theirs (WARDROBE_SIGNING_KEY_FILE), "
        "then start the job again",
        code="signature_untrusted",
    )


def _said(replicas: Sequence[Replica], name: str) -> str:
    """Replicas of another build may not say it."""
    return ", ".join(sorted({str(each.limits.get(name, "unknown")) for each in replicas}))


def wait_for_limits(
    replicas: Replicas,
    base: Digest,
    *,
    clock: Callable[[], float],
    pause: Callable[[], None],
    patience: float = PATIENCE,
) -> ServiceLimits:
    """`common_limits` once a replica reports; `pause` waits a moment and may raise.

    Raises Unavailable after `patience` seconds, Conflict when the base is another.
    """
    until = clock() + patience
    while not (found := reporting(replicas)):
        if clock() >= until:
            raise Unavailable(
                f"the service was not there for {patience:.0f} s; start it, then the job again",
                code="service_unavailable",
            )
        pause()
    return common_limits(found, base)


def fit(recipe: Recipe, limits: ServiceLimits) -> Recipe:
    """The recipe as the service can serve it. Raises InvalidRequest when the rank is too high.

    A context longer than the service's is cut down to it: examples beyond are refused, not
    truncated.
    """
    highest = max(trial.rank for trial in recipe.trials())
    if highest > limits.max_lora_rank:
        raise InvalidRequest(
            f"the recipe asks for rank {highest} and the service serves at most "
            f"{limits.max_lora_rank}; lower `recipe.rank` of the unit or raise "
            "WARDROBE_MAX_LORA_RANK",
            code="invalid_recipe",
        )
    return recipe.model_copy(update={"max_length": min(recipe.max_length, limits.max_model_len)})
