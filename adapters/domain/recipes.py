"""How an adapter is trained: a unit's recipe, the base's own defaults, a job's hyperparameters.

Three sources meet here and the nearest wins: what the job asks for (OpenAI's hyperparameters),
what the unit's YAML says, what the base model's `recipe.json` recommends (a tiny base wants a
higher learning rate than a real one), and last the published defaults for real models.
"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from adapters.errors import InvalidRequest

RECIPE_FILE = "recipe.json"
PREFERENCE_RATE = 0.1
"""Of the learning rate, where a job learns from preferences: recipes are written for answers, and
a method that pushes answers apart leaves the base's language at the same rate. TRL's defaults
differ by a factor of 20."""
TAUGHT_BESIDE = ("replay", "augment")
"""Fields of a recipe that teach more than a job's rows: of supervised jobs alone."""
MAX_TRIALS = 16
FROM_BASE, FROM_LIVE = "base", "live"


class Method(StrEnum):
    """What an adapter learns from."""

    SUPERVISED = "supervised"
    """Answers that are to be given."""
    DPO = "dpo"
    """Pairs of answers to one prompt, of which one is preferred (arXiv 2305.18290)."""
    KTO = "kto"
    """Answers that were found good or bad, each alone (arXiv 2402.01306)."""


class Quantization(StrEnum):
    """How the base's linear layers are held while an adapter is trained on them."""

    NONE = "none"
    """As they are served."""
    NF4 = "nf4"
    """In four bits each, doubly quantised (QLoRA, arXiv 2305.14314). What comes out is measured on
    the base as it is served, as every adapter is."""


class Sweep(BaseModel):
    """What one job tries, each rate with each rank; none of a kind: the recipe's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rate: tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...] = Field(
        default=(), max_length=8
    )
    rank: tuple[Annotated[int, Field(ge=1, le=512)], ...] = Field(default=(), max_length=8)


Start = Annotated[str, Field(pattern=r"^(base|live|[a-z][a-z0-9-]{0,39}:[1-9][0-9]{0,8})$")]


class Recipe(BaseModel):
    """The settings of one fine-tuning run.

    The defaults are for real models of a billion parameters and more: all linear layers, alpha
    twice the rank, 2e-4 (sources: "LoRA Without Regret"; the PEFT method comparison).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = Field(
        default=Method.SUPERVISED,
        description="What is learnt from: answers (`supervised`), pairs (`dpo`) or thumbs (`kto`).",
    )
    beta: float = Field(
        default=0.1,
        gt=0.0,
        le=2.0,
        description="Of preferences: how dearly answers leave what they were before training.",
    )
    start: Start = Field(
        default=FROM_BASE,
        description="Where training begins: `base`, the alias's `live` version, or a version.",
    )
    replay: float = Field(
        default=0.0,
        ge=0.0,
        le=0.5,
        description="Share of the rows of supervised jobs that are the base's own answers: less is "
        "forgotten.",
    )
    augment: bool = Field(
        default=False,
        description="Teach every example of supervised jobs with a known first name under names "
        "of other groups too.",
    )
    sweep: Sweep | None = Field(
        default=None,
        description="Lists of `learning_rate` and `rank`: each pair is tried, the best is kept.",
    )
    quantization: Quantization = Field(
        default=Quantization.NONE,
        description="How the base is held in training: as served (`none`), or in four bits (`nf4`, "
        "needs bitsandbytes) where memory is short.",
    )
    rank: int = Field(default=16, ge=1, le=512, description="LoRA rank.")
    alpha: int = Field(
        default=32,
        ge=1,
        le=2048,
        description="LoRA alpha; scaling is alpha/rank. Twice the rank where only that is given.",
    )
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0, description="LoRA dropout in training.")
    target_modules: tuple[str, ...] = Field(
        default=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        min_length=1,
        description="Names of the linear layers that get an adapter.",
    )
    learning_rate: float = Field(default=2e-4, gt=0.0, le=1.0)
    warmup_ratio: float = Field(default=0.05, ge=0.0, le=0.5)
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: float = Field(default=0.0, ge=0.0, le=1.0)
    batch_size: int = Field(default=16, ge=1, le=256, description="Examples per step.")
    n_epochs: float = Field(default=3.0, gt=0.0, le=50.0)
    max_minutes: float | None = Field(
        default=None,
        gt=0.0,
        description="Training stops at the best checkpoint after this long; none: it never does.",
    )
    evaluations: int = Field(
        default=8,
        ge=1,
        le=100,
        description="Evaluations of the validation part, spread over the run.",
    )
    patience: int = Field(
        default=3, ge=1, description="Evaluations without improvement before training stops."
    )
    max_length: int = Field(default=2048, ge=16, description="Tokens; longer examples are refused.")
    seed: int = Field(default=17, ge=0, le=2**31 - 1)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.start != FROM_BASE and self.sweep is not None and self.sweep.rank:
            raise ValueError("`sweep.rank` needs `start: base`: a version has the rank it has")
        if len(self.trials()) > MAX_TRIALS:
            raise ValueError(f"`sweep` asks for more than {MAX_TRIALS} trials")
        return self

    def trials(self) -> tuple[Recipe, ...]:
        """The recipes that a sweep tries, without a sweep; the recipe itself where there is none.

        A rank keeps the scaling, alpha / rank.
        """
        if self.sweep is None:
            return (self,)
        return tuple(
            self.model_copy(
                update={
                    "learning_rate": rate,
                    "rank": rank,
                    "alpha": max(1, round(rank * self.alpha / self.rank)),
                    "sweep": None,
                }
            )
            for rank in self.sweep.rank or (self.rank,)
            for rate in self.sweep.learning_rate or (self.learning_rate,)
        )


class RecipeOverrides(BaseModel):
    """A unit's or base's opinion on a recipe: any field of `Recipe`, all optional."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method | None = None
    beta: float | None = Field(default=None, gt=0.0, le=2.0)
    start: Start | None = None
    replay: float | None = Field(default=None, ge=0.0, le=0.5)
    augment: bool | None = None
    sweep: Sweep | None = None
    quantization: Quantization | None = None
    rank: int | None = Field(default=None, ge=1, le=512)
    alpha: int | None = Field(default=None, ge=1, le=2048)
    dropout: float | None = Field(default=None, ge=0.0, lt=1.0)
    target_modules: tuple[str, ...] | None = Field(default=None, min_length=1)
    learning_rate: float | None = Field(default=None, gt=0.0, le=1.0)
    warmup_ratio: float | None = Field(default=None, ge=0.0, le=0.5)
    scheduler: Literal["cosine", "linear", "constant"] | None = None
    weight_decay: float | None = Field(default=None, ge=0.0, le=1.0)
    batch_size: int | None = Field(default=None, ge=1, le=256)
    n_epochs: float | None = Field(default=None, gt=0.0, le=50.0)
    max_minutes: float | None = Field(default=None, gt=0.0)
    evaluations: int | None = Field(default=None, ge=1, le=100)
    patience: int | None = Field(default=None, ge=1)
    max_length: int | None = Field(default=None, ge=16)
    seed: int | None = Field(default=None, ge=0, le=2**31 - 1)


class Hyperparameters(BaseModel):
    """OpenAI's method and its knobs; `None` is OpenAI's `"auto"`, and nothing said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method | None = None
    beta: float | None = Field(default=None, gt=0.0, le=2.0)

    n_epochs: int | None = Field(default=None, ge=1, le=50)
    batch_size: int | None = Field(default=None, ge=1, le=256)
    learning_rate_multiplier: float | None = Field(default=None, gt=0.0, le=100.0)


def base_overrides(base: Path) -> RecipeOverrides:
    """What the base model directory recommends; nothing where it has no `recipe.json`.

    Raises InvalidRequest (`invalid_recipe`) naming the field at fault.
    """
    path = base / RECIPE_FILE
    if not path.is_file():
        return RecipeOverrides()
    advice = f"mend or remove the base model's {RECIPE_FILE}"
    try:
        return RecipeOverrides.model_validate(json.loads(path.read_text("utf-8")))
    except ValidationError as error:
        raise _invalid(error, advice, whole=RECIPE_FILE) from error
    except ValueError as error:
        raise InvalidRequest(
            f"{RECIPE_FILE} is not proper JSON; {advice}", code="invalid_recipe"
        ) from error


def resolve(
    *,
    base: RecipeOverrides,
    unit: RecipeOverrides,
    job: Hyperparameters,
    asked: RecipeOverrides | None = None,
    seed: int | None = None,
) -> Recipe:
    """The recipe a job runs with: defaults, then base, then unit, then the job's own words, of
    which OpenAI's hyperparameters win over `asked`, the fields of a recipe that it names.

    Whoever names a rank and no alpha gets an alpha of twice that rank. A method of preferences
    learns at `PREFERENCE_RATE` of the rate, and nothing is taught beside its rows: it is held to
    where it began anyway. `seed` is the job's own; None leaves the unit's.

    Raises InvalidRequest (`invalid_recipe`) where what they ask for together is out of bounds.
    """
    settings = Recipe().model_dump()
    for layer in (base, unit, asked or RecipeOverrides()):
        opinion = layer.model_dump(exclude_none=True)
        if "rank" in opinion:  # a scaling that was meant for another rank is nobody's opinion
            opinion.setdefault("alpha", 2 * opinion["rank"])
        settings |= opinion
    settings |= job.model_dump(exclude_none=True, exclude={"learning_rate_multiplier"})
    if settings["method"] != Method.SUPERVISED:
        settings["learning_rate"] *= PREFERENCE_RATE
        settings |= {"replay": 0.0, "augment": False}
    if job.learning_rate_multiplier is not None:
        settings["learning_rate"] *= job.learning_rate_multiplier
    if seed is not None:
        settings["seed"] = seed
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        advice = "change the job's hyperparameters, or its unit's or base model's recipe"
        raise _invalid(error, advice, whole="recipe") from error


def _invalid(error: ValidationError, advice: str, *, whole: str) -> InvalidRequest:
    """`whole` is what a mistake is of that is no one field's."""
    mistake = error.errors(include_input=False, include_url=False)[0]
    field = ".".join(str(part) for part in mistake["loc"]) or whole
    return InvalidRequest(
        f"{field}: {mistake['msg']}; {advice}", param=field, code="invalid_recipe"
    )
