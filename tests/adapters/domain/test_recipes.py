"""Where a job's recipe comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from adapters.domain.recipes import (
    Hyperparameters,
    Method,
    Recipe,
    RecipeOverrides,
    Sweep,
    base_overrides,
    resolve,
)
from adapters.errors import InvalidRequest

NONE = RecipeOverrides()
AUTO = Hyperparameters()


def test_without_opinions_the_defaults_hold() -> None:
    assert resolve(base=NONE, unit=NONE, job=AUTO) == Recipe()


def test_the_nearest_opinion_wins() -> None:
    base = RecipeOverrides(learning_rate=3e-3, rank=8, n_epochs=9.0)
    unit = RecipeOverrides(rank=32, n_epochs=7.0)
    recipe = resolve(base=base, unit=unit, job=Hyperparameters(n_epochs=2))
    assert (recipe.learning_rate, recipe.rank, recipe.n_epochs) == (3e-3, 32, 2.0)


def test_a_rank_without_an_alpha_means_twice_as_much() -> None:
    base = RecipeOverrides(rank=16, alpha=16)
    assert resolve(base=base, unit=NONE, job=AUTO).alpha == 16
    assert resolve(base=base, unit=RecipeOverrides(rank=64), job=AUTO).alpha == 128
    assert resolve(base=base, unit=RecipeOverrides(rank=64, alpha=8), job=AUTO).alpha == 8
    assert resolve(base=RecipeOverrides(rank=4), unit=RecipeOverrides(alpha=9), job=AUTO).alpha == 9


def test_a_units_seed_stands_where_the_job_has_none_of_its_own() -> None:
    unit = RecipeOverrides(seed=3)
    assert resolve(base=NONE, unit=unit, job=AUTO).seed == 3
    assert resolve(base=NONE, unit=unit, job=AUTO, seed=5).seed == 5


def test_a_job_multiplies_the_learning_rate_it_would_have_had() -> None:
    base = RecipeOverrides(learning_rate=2e-3)
    job = Hyperparameters(learning_rate_multiplier=0.5, batch_size=4)
    recipe = resolve(base=base, unit=NONE, job=job, seed=0)
    assert (recipe.learning_rate, recipe.batch_size, recipe.seed) == (1e-3, 4, 0)


def test_a_multiplier_that_leads_out_of_bounds_is_refused_with_the_field_and_no_value() -> None:
    with pytest.raises(InvalidRequest, match=r"^learning_rate: .* hyperparameters") as raised:
        resolve(
            base=RecipeOverrides(learning_rate=0.5),
            unit=NONE,
            job=Hyperparameters(learning_rate_multiplier=99.0),
        )
    assert (raised.value.reason, raised.value.param) == ("invalid_recipe", "learning_rate")
    assert "49.5" not in raised.value.message


def test_a_base_is_held_as_served_unless_a_job_or_unit_says_nf4_and_a_job_may_say_none() -> None:
    nf4, none = (RecipeOverrides(quantization=each) for each in ("nf4", "none"))

    def held(unit: RecipeOverrides, asked: RecipeOverrides | None = None) -> str:
        return resolve(base=NONE, unit=unit, job=Hyperparameters(), asked=asked).quantization

    assert (held(NONE), held(nf4), held(NONE, nf4), held(nf4, none)) == (
        "none",
        "nf4",
        "nf4",
        "none",
    )
    for nonsense in ("int8", "4", 4, True, "NF4"):
        with pytest.raises(ValidationError, match="quantization"):
            RecipeOverrides.model_validate({"quantization": nonsense})


def test_an_adapter_on_no_layer_is_no_recipe() -> None:
    for model in (Recipe, RecipeOverrides):
        with pytest.raises(ValidationError):
            model.model_validate({"target_modules": []})


def test_overrides_may_name_every_field_of_a_recipe_and_no_other() -> None:
    assert RecipeOverrides.model_fields.keys() == Recipe.model_fields.keys()
    with pytest.raises(ValidationError):
        RecipeOverrides.model_validate({"lr": 1e-3})


def test_what_a_recipe_may_not_have_overrides_may_not_ask_for() -> None:
    for values in ({"rank": 0}, {"learning_rate": 2.0}, {"scheduler": "magic"}, {"seed": -1}):
        for model in (Recipe, RecipeOverrides):
            with pytest.raises(ValidationError):
                model.model_validate(values)


def test_a_base_recommends_through_its_recipe_file(tmp_path: Path) -> None:
    assert base_overrides(tmp_path) == NONE
    (tmp_path / "recipe.json").write_text('{"learning_rate": 0.003}')
    assert base_overrides(tmp_path) == RecipeOverrides(learning_rate=3e-3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"rank": 12345}', "rank: "),
        ('{"rnk": 8}', "rnk: "),
        ("[12345]", "recipe.json: "),
        ("{12345", "recipe.json is not proper JSON"),
    ],
)
def test_a_broken_recipe_file_is_told_with_what_to_do(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(InvalidRequest) as raised:
        base_overrides(tmp_path)
    assert raised.value.reason == "invalid_recipe"
    assert raised.value.message.startswith(told)
    assert "mend or remove the base model's recipe.json" in raised.value.message
    assert "12345" not in raised.value.message


def test_a_method_of_preferences_learns_at_a_tenth_of_the_rate() -> None:
    unit = RecipeOverrides(learning_rate=2e-3)
    job = Hyperparameters(method=Method.DPO, beta=0.3, learning_rate_multiplier=2.0)
    recipe = resolve(base=NONE, unit=unit, job=job)
    assert (recipe.method, recipe.beta) == (Method.DPO, 0.3)
    assert recipe.learning_rate == pytest.approx(4e-4)


def test_what_a_unit_teaches_beside_its_rows_is_for_its_supervised_jobs() -> None:
    unit = RecipeOverrides(replay=0.2, augment=True)
    recipe = resolve(base=NONE, unit=unit, job=AUTO)
    assert (recipe.replay, recipe.augment) == (0.2, True)
    kto = resolve(base=NONE, unit=unit, job=Hyperparameters(method=Method.KTO))
    assert (kto.replay, kto.augment) == (0.0, False)


def test_a_job_without_a_method_has_its_units() -> None:
    unit = RecipeOverrides(method=Method.KTO)
    assert resolve(base=NONE, unit=unit, job=AUTO).method is Method.KTO
    job = Hyperparameters(method=Method.SUPERVISED)
    assert resolve(base=NONE, unit=unit, job=job).learning_rate == Recipe().learning_rate


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"start": "live", "sweep": {"rank": [8]}}, "`sweep.rank` needs `start: base`"),
        ({"sweep": {"rank": [1, 2, 3, 4, 5], "learning_rate": [0.1] * 4}}, "more than 16 trials"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_with_the_reason(
    values: dict[str, Any], why: str
) -> None:
    with pytest.raises(InvalidRequest, match=why) as raised:
        resolve(base=NONE, unit=RecipeOverrides.model_validate(values), job=AUTO)
    assert raised.value.param == "recipe"


def test_a_sweep_tries_each_rate_with_each_rank_at_the_same_scaling() -> None:
    recipe = Recipe(rank=16, alpha=16, sweep=Sweep(learning_rate=(1e-3, 1e-4), rank=(8, 32)))
    tried = [(each.rank, each.alpha, each.learning_rate) for each in recipe.trials()]
    assert tried == [(8, 8, 1e-3), (8, 8, 1e-4), (32, 32, 1e-3), (32, 32, 1e-4)]
    assert all(each.trials() == (each,) for each in recipe.trials())


def test_a_start_that_is_no_version_is_refused() -> None:
    for start in ("support:0", "../support:1", "somewhere", ""):
        with pytest.raises(ValidationError):
            Recipe.model_validate({"start": start})
