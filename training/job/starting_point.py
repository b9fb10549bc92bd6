"""Where a job's training begins: the base, or a version of the same adapter that is trained on.

A version is trained further only where that makes the same kind of adapter: on the same base, with
the recipe's rank and layers. Its files are verified before, as a replica does before it loads them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adapters.admission.adapter_config import AdapterConfig
from adapters.admission.base_model import BaseModel
from adapters.admission.checks import admit
from adapters.domain.jobs import Job
from adapters.domain.names import Alias, split_version
from adapters.domain.recipes import FROM_BASE, FROM_LIVE, Recipe
from adapters.domain.versions import Version
from adapters.errors import InvalidRequest, NotFound, Rejected
from adapters.registry import Registry
from adapters.store import ArtifactStore

_WAYS_OUT = "change the unit's `recipe`, or begin with the base (`start: base`)"


class Shelf(Protocol):
    """Where versions and their files are found, and the base that they must belong to."""

    @property
    def registry(self) -> Registry: ...

    @property
    def store(self) -> ArtifactStore: ...

    @property
    def base(self) -> BaseModel: ...


@dataclass(frozen=True, kw_only=True)
class StartingPoint:
    """A version that is trained further, and its verified files."""

    version: Version
    directory: Path


def settle_start(shelf: Shelf, job: Job, recipe: Recipe, say: Callable[[str], None]) -> Recipe:
    """The recipe with `live` as the name of a version, so that every attempt begins with the same.

    A job that names a version as its `model` begins with that one. Without a live version of this
    base, it begins with the base.
    """
    if split_version(job.model) is not None:
        return recipe.model_copy(update={"start": job.model})
    if recipe.start != FROM_LIVE:
        return recipe
    live = _live(shelf, job)
    if live is None:
        say("There is no live version to begin with: training begins with the base")
    return recipe.model_copy(update={"start": live.name if live else FROM_BASE})


def starting_point(shelf: Shelf, job: Job, recipe: Recipe) -> StartingPoint | None:
    """What a settled recipe begins with; None is the base.

    Raises InvalidRequest (`invalid_recipe`) with the reason where it cannot, Unavailable,
    StorageFull.
    """
    if recipe.start == FROM_BASE:
        return None
    version = _found(shelf, job, recipe.start)
    _check(shelf, job, version)
    try:
        directory = shelf.store.fetch(version.digest)
        # its rank is asked below: what serves today's versions is no bound for it
        config = admit(directory, base=shelf.base.shapes, max_rank=version.rank).config
    except NotFound:
        raise _no(job, version.name, "its files are gone: retention gave them up") from None
    except Rejected as error:
        raise _no(job, version.name, error.message) from error
    for trial in recipe.trials():
        difference = _difference(config, trial)
        if difference is not None:
            raise _no(job, version.name, f"{difference}; {_WAYS_OUT}")
    return StartingPoint(version=version, directory=directory)


def _live(shelf: Shelf, job: Job) -> Version | None:
    route = shelf.registry.routes.route(Alias(job.adapter), job.unit)
    if route.stable is None:
        return None
    version = shelf.registry.versions.by_id(route.stable)
    return version if version.base_fingerprint == shelf.base.fingerprint else None


def _found(shelf: Shelf, job: Job, name: str) -> Version:
    adapter, number = split_version(name) or ("", 0)
    try:
        return shelf.registry.versions.get(adapter, number, job.principal)
    except NotFound:
        raise _no(job, name, "there is no such version") from None


def _check(shelf: Shelf, job: Job, version: Version) -> None:
    if version.adapter != job.adapter:
        # it may have been taught what measures this one
        raise _no(job, version.name, f"the job builds {job.adapter}, and it is another adapter's")
    if version.base_fingerprint != shelf.base.fingerprint:
        raise _no(job, version.name, "it belongs to another base model")
    if not version.servable:
        raise _no(job, version.name, "it was rejected or withdrawn")


def _difference(config: AdapterConfig, recipe: Recipe) -> str | None:
    """Why the recipe would make another kind of adapter. Alpha may differ: it is a factor, which is
    kept exactly.
    """
    if config.r != recipe.rank:
        return f"its rank is {config.r} and the recipe's {recipe.rank}"
    if set(config.target_modules) != set(recipe.target_modules):
        return f"it adapts {', '.join(sorted(config.target_modules))} and the recipe other layers"
    if config.rank_pattern or config.alpha_pattern or config.layers_to_transform is not None:
        return "its layers differ in rank, alpha or presence, which no recipe says"
    return "it is scaled as rsLoRA" if config.use_rslora else None


def _no(job: Job, name: str, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"training cannot begin with {name}: {why}",
        param="start" if split_version(job.model) is None else "model",
        code="invalid_recipe",
    )
