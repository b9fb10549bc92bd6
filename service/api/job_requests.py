"""What may be asked for when a fine-tuning job is created, and the job that is meant by it."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from adapters.domain.jobs import Job
from adapters.domain.names import FileId, new_job_id, split_version
from adapters.domain.principals import Principal
from adapters.domain.recipes import TAUGHT_BESIDE, Hyperparameters, RecipeOverrides
from adapters.domain.recipes import Method as LearningMethod
from adapters.domain.units import UnitConfig
from adapters.errors import IllegalTransition, InvalidRequest, NotFound
from adapters.registry.ports import Files, NewJob
from service.api.request import named_unit
from service.runtime import Runtime

MAX_METADATA = 16
"""Pairs of a job, and filters of a list."""


def _auto(value: object) -> object:
    return None if value == "auto" else value


class RequestedHyperparameters(BaseModel):
    """OpenAI's three, each a number or `auto`."""

    model_config = ConfigDict(extra="forbid")

    n_epochs: Annotated[int | None, BeforeValidator(_auto)] = Field(default=None, ge=1, le=50)
    batch_size: Annotated[int | None, BeforeValidator(_auto)] = Field(default=None, ge=1, le=256)
    learning_rate_multiplier: Annotated[float | None, BeforeValidator(_auto)] = Field(
        default=None, gt=0.0, le=100.0, allow_inf_nan=False
    )


class PreferenceHyperparameters(RequestedHyperparameters):
    """Those, and how dearly answers leave what they were before training."""

    beta: Annotated[float | None, BeforeValidator(_auto)] = Field(
        default=None, gt=0.0, le=2.0, allow_inf_nan=False
    )


class Supervised(BaseModel):
    """OpenAI's `supervised`: from answers."""

    model_config = ConfigDict(extra="forbid")

    hyperparameters: RequestedHyperparameters = RequestedHyperparameters()


class Preferences(BaseModel):
    """OpenAI's `dpo`, from pairs, and `kto`, from single answers with thumbs."""

    model_config = ConfigDict(extra="forbid")

    hyperparameters: PreferenceHyperparameters = PreferenceHyperparameters()


class Method(BaseModel):
    """OpenAI's `method`, and `kto` in the same form."""

    model_config = ConfigDict(extra="forbid")

    type: LearningMethod
    supervised: Supervised = Supervised()
    dpo: Preferences = Preferences()
    kto: Preferences = Preferences()

    @property
    def knobs(self) -> Hyperparameters:
        """The method with the hyperparameters that belong to it."""
        chosen: Supervised | Preferences = getattr(self, self.type)
        return Hyperparameters(method=self.type, **chosen.hyperparameters.model_dump())


class JobSettings(BaseModel):
    """What OpenAI has no words for, as one field beside OpenAI's own: `x_wardrobe`."""

    model_config = ConfigDict(extra="forbid")

    unit: str | None = Field(default=None, max_length=40)
    recipe: RecipeOverrides | None = None
    dry_run: bool = False


class CreateJob(BaseModel):
    """The body of `jobs.create`; `x_unit` is short for the settings' unit."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, max_length=256)
    training_file: str = Field(min_length=1, max_length=64)
    validation_file: str | None = Field(default=None, max_length=64)
    suffix: str | None = Field(default=None, max_length=64)
    seed: int | None = Field(default=None, ge=0, le=2**31 - 1)
    metadata: (
        dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] | None
    ) = Field(default=None, max_length=MAX_METADATA)
    method: Method | None = None
    hyperparameters: RequestedHyperparameters | None = None
    integrations: list[dict[str, Any]] | None = Field(default=None, max_length=5)
    x_unit: str | None = Field(default=None, max_length=40)
    x_wardrobe: JobSettings | None = None

    def knobs(self) -> Hyperparameters:
        """`method`'s hyperparameters, else the deprecated ones at the top."""
        if self.method is not None:
            return self.method.knobs
        given = self.hyperparameters or RequestedHyperparameters()
        return Hyperparameters.model_validate(given.model_dump())


class RetryJob(BaseModel):
    """What a job that is tried again changes of its recipe."""

    model_config = ConfigDict(extra="forbid")

    recipe: RecipeOverrides | None = None


def new_job(runtime: Runtime, principal: Principal, asked: CreateJob) -> NewJob:
    """What is to be stored. Raises NotFound for a model or a unit, InvalidRequest.

    Whether a version that is to be trained further is there is decided where the job is stored, as
    it is of files: a repeated request finds its job whatever became of them.
    """
    settings = asked.x_wardrobe or JobSettings()
    if settings.unit is not None and asked.x_unit not in (None, settings.unit):
        raise InvalidRequest("`x_unit` and `x_wardrobe.unit` differ", param="x_unit")
    unit = named_unit(runtime, principal, settings.unit or asked.x_unit, param="x_unit")
    config = runtime.units.current.units.get(unit)
    _method(config, asked.knobs())
    return NewJob(
        id=new_job_id(),
        unit=unit,
        adapter=_adapter(config, asked.suffix, _further(runtime, config, asked.model)),
        model=asked.model,
        training_file=FileId(asked.training_file),
        validation_file=FileId(asked.validation_file) if asked.validation_file else None,
        seed=asked.seed,
        suffix=asked.suffix,
        hyperparameters=asked.knobs(),
        metadata=asked.metadata,
        recipe=_recipe(settings.recipe, "x_wardrobe.recipe"),
        dry_run=settings.dry_run,
    )


def retried_job(runtime: Runtime, job: Job, asked: RetryJob) -> NewJob:
    """The same once more, with what is changed: it wins over all that the job had asked for.

    Raises IllegalTransition before the job has ended, NotFound without its unit or where its model
    is served no more, InvalidRequest.
    """
    if not job.status.finished:
        raise IllegalTransition(
            f"job {job.id} is {job.status}: only what has ended is tried again", code="job_state"
        )
    config = runtime.units.current.units.get(job.unit)
    if job.adapter not in config.aliases:
        raise InvalidRequest(f"`{job.adapter}` is no alias of this unit any more")
    _further(runtime, config, job.model)
    knobs = job.hyperparameters
    method = _method(config, knobs)
    changes = _recipe(asked.recipe, "recipe")
    said = changes.model_dump(exclude_none=True) if changes else {}
    for name in TAUGHT_BESIDE if method is not LearningMethod.SUPERVISED else ():
        if said.get(name):
            raise InvalidRequest(
                f"a job that learns by `{method}` teaches nothing beside its rows",
                param=f"recipe.{name}",
            )
    earlier = job.recipe.model_dump(exclude_none=True) if job.recipe else {}
    if "rank" in said:  # a scaling that was meant for another rank is nobody's opinion
        earlier.pop("alpha", None)
    recipe = RecipeOverrides.model_validate(earlier | said)
    return NewJob.like(
        job,
        recipe=recipe if earlier | said else None,
        hyperparameters=knobs.model_copy(update=dict.fromkeys(_overruled(said))),
    )


def _overruled(changes: Collection[str]) -> set[str]:
    """The hyperparameters that would win over what a recipe says."""
    rate = {"learning_rate_multiplier"} if "learning_rate" in changes else set()
    return rate | (Hyperparameters.model_fields.keys() & set(changes))


def _method(config: UnitConfig, knobs: Hyperparameters) -> LearningMethod:
    """What a job learns by. Raises InvalidRequest where the unit's data cannot be learnt so."""
    method = knobs.method or config.recipe.method or LearningMethod.SUPERVISED
    config.data.check_method(supervised=method is LearningMethod.SUPERVISED)
    return method


def _recipe(recipe: RecipeOverrides | None, param: str) -> RecipeOverrides | None:
    """Without what OpenAI has a word for. Raises InvalidRequest."""
    for name in ("method", "seed"):
        if recipe is not None and getattr(recipe, name) is not None:
            raise InvalidRequest(
                f"say it as `{name}` of the job, not of its recipe", param=f"{param}.{name}"
            )
    return recipe if recipe and recipe.model_dump(exclude_none=True) else None


def _further(runtime: Runtime, config: UnitConfig, model: str) -> str | None:
    """The adapter of a version that is trained further; None where `model` is the base."""
    if model == runtime.table.base_name:
        return None
    if model in config.aliases:
        raise InvalidRequest(
            f"`{model}` is an alias, whose version changes: name a version, as `{model}:1`, or the "
            f"base model, `{runtime.table.base_name}`",
            param="model",
        )
    version = split_version(model)
    if version is None or version[0] not in config.aliases:
        raise unknown_model(runtime)
    return version[0]


def unknown_model(runtime: Runtime) -> NotFound:
    """The same for what is not there and for what is another unit's."""
    return NotFound(
        f"`model` must be the base model, `{runtime.table.base_name}`, or a version of this unit",
        param="model",
        code="model_not_found",
    )


def _adapter(config: UnitConfig, suffix: str | None, further: str | None) -> str:
    """Which of the unit's adapters a job builds: the one `suffix` names, else that of the version
    it begins with, else the first.
    """
    if suffix is None:
        return further or config.aliases[0]
    if suffix not in config.aliases:
        raise InvalidRequest(
            f"`suffix` must be one of this unit's aliases: {', '.join(config.aliases)}",
            param="suffix",
        )
    if further not in (None, suffix):
        raise InvalidRequest(f"a version of {further} goes on as {further}", param="suffix")
    return suffix


def check_files(files: Files, principal: Principal, job: NewJob) -> None:
    """Raises InvalidRequest for a file that is no training data; whether it is there is decided
    where the job is stored.
    """
    for param in ("training_file", "validation_file"):
        file_id: FileId | None = getattr(job, param)
        if file_id is None:
            continue
        with suppress(NotFound):
            if files.get(file_id, principal).purpose != "fine-tune":
                raise InvalidRequest(f"`{param}` must have the purpose `fine-tune`", param=param)
