"""The embedded base: what it reads, how it is cached, and that a build is a real model."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from adapters.domain.recipes import base_overrides
from adapters.settings import TrainPrecision
from training.base.build import MANIFEST, ensure_base, is_whole
from training.base.corpus import documents
from training.base.lexicon import read_lexicon
from training.base.recipe import BaseRecipe, digest

SMALL = BaseRecipe(
    vocabulary=400,
    hidden=64,
    layers=1,
    heads=1,
    feed_forward=64,
    tokenizer_documents=50,
    window=32,
    batch=2,
    steps=3,
)


def write_a_model(recipe: BaseRecipe, directory: Path, say: Callable[[str], None]) -> None:
    (directory / "model.safetensors").write_bytes(b"weights")
    say("built")


def never(recipe: BaseRecipe, directory: Path, say: Callable[[str], None]) -> None:
    raise AssertionError("built again")


def fail(recipe: BaseRecipe, directory: Path, say: Callable[[str], None]) -> None:
    (directory / "model.safetensors").write_bytes(b"half")
    raise OSError("no space left on device")


def once_another_waits(recipe: BaseRecipe, directory: Path, say: Callable[[str], None]) -> None:
    with (directory.parent / "builds").open("a") as notes:
        notes.write("x")
    deadline = time.monotonic() + 300
    while not (directory.parent / "waiting").exists():
        assert time.monotonic() < deadline, "nobody waits"
        time.sleep(0.01)
    write_a_model(recipe, directory, say)


def build_while_another_waits(cache: Path) -> None:
    def say(line: str) -> None:
        if "another process" in line:
            (cache / "base" / "waiting").touch()

    ensure_base(cache, recipe=SMALL, build=once_another_waits, say=say)


def test_the_corpus_is_the_same_for_the_same_seed() -> None:
    one, two, other = (list(islice(documents(seed, chat_share=0.9), 200)) for seed in (1, 1, 2))
    assert one == two
    assert one != other


def test_the_corpus_is_varied() -> None:
    sample = list(islice(documents(3, chat_share=0.9), 4000))
    words = {word for chat in sample for _, text in chat for word in text.lower().split()}
    assert len(set(sample)) > 3500
    assert len(words) > 3000
    assert {role for chat in sample for role, _ in chat} == {"system", "user", "assistant", "text"}
    assert any(len(chat) >= 4 for chat in sample)


def test_every_concept_names_itself_first() -> None:
    for topic in read_lexicon():
        for concept in (*topic.things, *topic.acts):
            assert concept.name == concept.words[0].replace(" ", "_")
            assert all(concept.words), (topic.name, concept.name)


def test_the_digest_follows_the_recipe() -> None:
    assert digest(BaseRecipe()) == digest(BaseRecipe())
    assert digest(BaseRecipe()) != digest(replace(BaseRecipe(), steps=1))


def test_a_cached_base_is_not_built_again(tmp_path: Path) -> None:
    first = ensure_base(tmp_path, recipe=SMALL, build=write_a_model)
    assert ensure_base(tmp_path, recipe=SMALL, build=never) == first


def test_force_builds_it_again(tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        ensure_base(tmp_path, recipe=SMALL, build=write_a_model, say=said.append, force=True)
    assert said == ["built", "built"]


@pytest.mark.parametrize("damage", ["cut", "missing", "no manifest"])
def test_a_torn_cache_is_built_again(tmp_path: Path, damage: str) -> None:
    path = ensure_base(tmp_path, recipe=SMALL, build=write_a_model)
    if damage == "cut":
        (path / "model.safetensors").write_bytes(b"weigh")
    else:
        (path / ("model.safetensors" if damage == "missing" else MANIFEST)).unlink()
    assert not is_whole(path)
    assert is_whole(ensure_base(tmp_path, recipe=SMALL, build=write_a_model))


def test_a_build_that_fails_leaves_nothing_to_be_mistaken_for_a_base(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no space"):
        ensure_base(tmp_path, recipe=SMALL, build=fail)
    assert [path for path in (tmp_path / "base").iterdir() if path.is_dir()] == []


def test_two_processes_that_want_it_at_once_build_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=build_while_another_waits, args=(tmp_path,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(600)
    assert [process.exitcode for process in both] == [0, 0]
    assert (tmp_path / "base" / "builds").read_text() == "x"


def test_what_a_killed_build_left_is_removed_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / "base" / f".{digest(SMALL)[:16]}-killed"
    left.mkdir(parents=True)
    ensure_base(tmp_path, recipe=SMALL, build=write_a_model)
    assert not left.exists()


@pytest.mark.slow
def test_a_slow_machine_is_told_how_long_it_will_take() -> None:
    from training.base.pretrain import progress

    line = progress(50, 500, loss=3.5, seconds=315.0)
    assert line == "step 50/500  loss 3.500  315 s, about 2835 s left"


@pytest.mark.slow
def test_a_build_tells_its_work_before_it_begins_and_how_far_it_is(tmp_path: Path) -> None:
    said: list[str] = []
    ensure_base(tmp_path, recipe=SMALL, say=said.append, precision="float32")
    assert "training in float32 on 192 tokens, in 3 steps" in said
    assert [line.split()[1] for line in said if line.startswith("step")] == ["1/3", "2/3", "3/3"]
    assert said[-1].endswith("about 0 s left")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_build_is_a_model_directory_that_transformers_loads(
    tmp_path: Path, precision: TrainPrecision
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = ensure_base(tmp_path, recipe=SMALL, precision=precision)
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path)
    config = json.loads((path / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["vocab_size"] == len(tokenizer) == 400
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert (
        "{% generation %}"
        in json.loads((path / "tokenizer_config.json").read_text())["chat_template"]
    )
    assert base_overrides(path) == SMALL.fine_tuning


def test_the_real_recipe_has_two_to_five_million_parameters() -> None:
    recipe = BaseRecipe()
    layer = 4 * recipe.hidden**2 + 3 * recipe.hidden * recipe.feed_forward
    parameters = recipe.vocabulary * recipe.hidden + recipe.layers * layer
    assert 2_000_000 <= parameters <= 5_000_000
    assert recipe.positions >= 1024
