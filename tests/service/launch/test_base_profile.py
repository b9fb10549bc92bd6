"""The service's view of a base's profile: read once, kept, and turned into limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapters.domain.base_profile import BaseProfile, ChatProfile, LinearModule, Problem, to_json
from adapters.errors import InvalidRequest
from adapters.settings import Settings
from service.cli.base_check import Finding, told
from service.launch.base_profile import kept_profile, planned
from tests.adapters.store.sources import a_base

PROFILE = BaseProfile(
    fingerprint="f" * 64,
    revision=None,
    architecture="LlamaForCausalLM",
    dtype="float32",
    parameters=2_000_000,
    context=512,
    kv_numbers_per_token=1536,
    modules=(LinearModule(name="q_proj", count=4, shapes=((192, 192),), width=1536),),
    end_tokens=("<|end|>",),
    chat=None,
    problems=(),
)


class Reader:
    """Stands where the trainer's side is asked; counts how often."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer, self.asked = answer, 0

    def __call__(self, settings: Settings, base: Path, revision: str | None) -> dict[str, Any]:
        self.asked += 1
        return self.answer


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return a_base(tmp_path / "base")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state=tmp_path / "state", cache=tmp_path / "cache")


def test_a_profile_is_read_once_for_the_same_files(base: Path, settings: Settings) -> None:
    reader = Reader(to_json(PROFILE))
    first = kept_profile(settings, base, read=reader)
    assert kept_profile(settings, base, read=reader) == first == PROFILE
    assert reader.asked == 1
    (base / "config.json").write_text('{"model_type": "llama", "changed": true}')
    kept_profile(settings, base, read=reader)
    assert reader.asked == 2


def test_with_another_setting_of_thinking_it_is_read_anew(base: Path, settings: Settings) -> None:
    reader = Reader(to_json(PROFILE))
    kept_profile(settings, base, read=reader)
    kept_profile(settings.model_copy(update={"thinking": "on"}), base, read=reader)
    assert reader.asked == 2


def test_what_cannot_be_read_is_told_and_not_kept(base: Path, settings: Settings) -> None:
    reader = Reader({"error": "the base's config.json cannot be read"})
    for _ in range(2):
        with pytest.raises(InvalidRequest, match=r"config\.json"):
            kept_profile(settings, base, read=reader)
    assert reader.asked == 2


def test_limits_follow_from_the_profile_and_what_was_set_stays(
    base: Path, settings: Settings
) -> None:
    kept_profile(settings, base, read=Reader(to_json(PROFILE)))
    assert planned(settings, base).max_model_len == 512
    assert planned(settings, base).dtype == "float32"
    given = Settings(state=settings.state, cache=settings.cache, max_model_len=300)
    assert planned(given, base).max_model_len == 300


@pytest.mark.parametrize(("parser", "calls"), [("hermes", True), (None, False)])
def test_how_calls_and_thoughts_are_read_follows_from_the_profile_unless_it_is_set(
    base: Path, settings: Settings, parser: str | None, calls: bool
) -> None:
    chat = ChatProfile(
        training_form="own", ends_with="</s>", options={}, conversations={}, tool_parser=parser
    )
    kept_profile(settings, base, read=Reader(to_json(PROFILE.evolve(chat=chat))))
    found = planned(settings, base)
    assert (found.calls_tools, found.reasoning_parser) == (calls, "none")
    given = Settings(state=settings.state, cache=settings.cache, tool_parser="none")
    assert not planned(given, base).calls_tools


def test_an_engine_and_a_trainer_on_one_gpu_share_its_memory(
    base: Path, settings: Settings
) -> None:
    kept_profile(settings, base, read=Reader(to_json(PROFILE)))

    def shares(settings: Settings, *, trainer: bool) -> tuple[float, float]:
        found = planned(settings, base, trainer=trainer)
        return found.gpu_share, found.train_gpu_share

    on_gpu = Settings(state=settings.state, cache=settings.cache, engine="gpu")
    assert shares(on_gpu, trainer=False) == (0.9, 1.0)
    assert shares(on_gpu, trainer=True) == (0.5, 0.4)
    chosen = Settings(state=settings.state, cache=settings.cache, engine="gpu", gpu_share=0.7)
    assert shares(chosen, trainer=True) == (0.7, 0.2)
    assert shares(settings, trainer=True) == (0.9, 1.0), "on a CPU"


def test_a_folder_without_weights_keeps_the_settings(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert planned(settings, tmp_path) == settings


def test_every_problem_is_told_and_a_blocking_one_makes_it_unusable() -> None:
    problems = (
        Problem(what="is quantised (awq)", blocking=True),
        Problem(what="two turns: refused", blocking=False),
    )
    lines = list(told(Finding(profile=PROFILE, plan=None, problems=problems)))
    assert "PROBLEM         is quantised (awq)" in lines
    assert "note            two turns: refused" in lines
    assert lines[-1].split() == ["usable", "no"]
