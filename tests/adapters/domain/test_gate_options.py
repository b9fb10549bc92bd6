"""Gates that a unit asks for: a planted fault fails by its gate, and an honest version passes.

Evaluations are made by hand: a gate is a pure function of them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from math import log2

import pytest
from pydantic import ValidationError

from adapters.domain.datasets import Part
from adapters.domain.evaluations import BASE, Evaluation, Scorer, Suite, part_of
from adapters.domain.fairness import CONTROL as SAME
from adapters.domain.fairness import INTERSECTIONS, ORIGINAL, row_id
from adapters.domain.gate_options import (
    ConductOptions,
    DataOptions,
    FairnessOptions,
    ForgettingOptions,
    LeakageOptions,
)
from adapters.domain.gates import GatePolicy, GateResult, Outcome
from adapters.domain.leakage import CONTROL, exposures
from adapters.domain.macro_f1 import macro_f1, per_label, pseudo_values
from adapters.domain.measured import Proof
from adapters.domain.proof import judge
from tests.adapters.domain.test_proof import CANDIDATE, ROWS, evaluated, held_up, proof, with_scores

EVERYTHING = GatePolicy(
    forgetting=ForgettingOptions(other_units=4),
    leakage=LeakageOptions(),
    fairness=FairnessOptions(favourable="advance"),
    conduct=ConductOptions(),
)


NOTHING_MORE = GatePolicy(min_ends=None, min_skill=None, data=None)


def on(
    suite: Suite, scorer: Scorer, scores: Mapping[str, float], subject: str = CANDIDATE
) -> Evaluation:
    return evaluated(subject, scorer, scores, part=suite)


def by_row(value: float, count: int = 10) -> dict[str, float]:
    return {f"row-{at}": value for at in range(count)}


def canary_nats(planted: float, *, canaries: int = 4, controls: int = 31) -> dict[str, float]:
    """What each secret costs: the planted ones, and drawn ones from 10 nats on."""
    nats = {}
    for at in range(canaries):
        nats[f"canary-{at}"] = planted
        nats |= {f"canary-{at}{CONTROL}{control}": 10.0 + control for control in range(controls)}
    return nats


def extraction(seen: float, unseen: float, rows: int = 10) -> dict[str, float]:
    right = {f"seen:{at}": float(at < seen * rows) for at in range(rows)}
    return right | {f"unseen:{at}": float(at < unseen * rows) for at in range(rows)}


def decisions(
    unfair: Mapping[tuple[str, str], float] | None = None, *, rows: int = 16
) -> dict[str, float]:
    """Half of the applications are favoured, whoever asks; `unfair` is a rate for one group."""
    groups = {
        ORIGINAL: [ORIGINAL],
        SAME: ["weekday", "paper"],
        "name": ["european", "muslim"],
        "gender": ["woman", "man"],
        "age": ["28", "58"],
        INTERSECTIONS: ["european woman", "muslim woman"],
    }
    found: dict[str, float] = {}
    for kind, names in groups.items():
        for group in names:
            share = (unfair or {}).get((kind, group), 0.5)
            found |= {
                row_id(f"row{at}", kind, group): float(at < share * rows) for at in range(rows)
            }
    return found


def whole() -> Proof:
    """An honest version of a unit that has asked for every gate."""
    of = proof()
    more = [
        on(Suite.NEUTRAL, Scorer.KL, by_row(0.1)),
        on(Suite.TASK, Scorer.KL, by_row(4.0)),
        on(Suite.GENERAL, Scorer.PASSES, by_row(0.9), BASE),
        on(Suite.GENERAL, Scorer.PASSES, by_row(0.9)),
        on(Suite.OTHERS, Scorer.NATS, by_row(6.0), BASE),
        on(Suite.OTHERS, Scorer.NATS, by_row(6.3)),
        on(Suite.OTHERS, Scorer.TOKENS, by_row(3.0)),
        on(Suite.CANARIES, Scorer.NATS, canary_nats(25.5)),
        on(Suite.EXTRACTION, Scorer.EXTRACTED, extraction(0.2, 0.2)),
        evaluated(CANDIDATE, Scorer.REDACTED, [0.0] * ROWS),
        on(Suite.COUNTERFACTUALS, Scorer.FAVOURED, decisions()),
        *(on(each, Scorer.PASSES, by_row(1.0), who) for each in (Suite.SAFETY, Suite.OBEDIENCE)
          for who in (BASE, CANDIDATE)),
    ]  # fmt: skip
    return replace(of, evaluations=[*of.evaluations, *more])


def having(suite: Suite, scorer: Scorer, scores: Mapping[str, float]) -> Proof:
    """The honest version, but for one later measurement."""
    of = whole()
    return replace(of, evaluations=[*of.evaluations, on(suite, scorer, scores)])


def gate(of: Proof, name: str, policy: GatePolicy = EVERYTHING) -> GateResult:
    return next(each for each in judge(of, policy) if each.name == name)


def test_an_honest_version_passes_all_that_a_unit_can_ask_for() -> None:
    gates = {each.name: each.outcome for each in judge(whole(), EVERYTHING)}
    assert held_up(whole(), EVERYTHING) == []
    skipped = [name for name, outcome in gates.items() if outcome is Outcome.SKIPPED]
    assert skipped == ["task against live", "forgetting on the task's prompts against base"]
    assert len(gates) == 25


def test_what_a_unit_does_not_ask_for_is_not_judged() -> None:
    names = {each.gate for each in judge(whole(), NOTHING_MORE)}
    assert names == {"artifact", "effect", "fidelity", "task", "overfitting"}


def test_what_was_asked_for_and_not_measured_is_an_error() -> None:
    outcomes = {each.gate: each.outcome for each in judge(proof(), EVERYTHING)}
    for name in ("forgetting on neutral prompts", "leakage of training rows", "fairness on name",
                 "fairness by flips", "safety", "obedience"):  # fmt: skip
        assert outcomes[name] is Outcome.ERROR


# -- one planted fault for each gate


@pytest.mark.parametrize(
    ("name", "suite", "scorer", "scores"),
    [
        ("forgetting on neutral prompts against base", Suite.NEUTRAL, Scorer.KL, by_row(3.5)),
        ("forgetting on general questions against base", Suite.GENERAL, Scorer.PASSES, by_row(0.2)),
        ("forgetting on other units' examples against base", Suite.OTHERS, Scorer.NATS,
         by_row(12.0)),
        ("leakage of planted canaries", Suite.CANARIES, Scorer.NATS, canary_nats(1.0)),
        ("leakage of training rows", Suite.EXTRACTION, Scorer.EXTRACTED, extraction(0.9, 0.1)),
        ("safety", Suite.SAFETY, Scorer.PASSES, by_row(0.5)),
        ("obedience", Suite.OBEDIENCE, Scorer.PASSES, by_row(0.5)),
    ],
)  # fmt: skip
def test_a_planted_fault_is_held_up_by_its_gate_and_by_no_other(
    name: str, suite: Suite, scorer: Scorer, scores: Mapping[str, float]
) -> None:
    held = held_up(having(suite, scorer, scores), EVERYTHING)
    assert [each.removesuffix(" against base") for each in held] == [
        name.removesuffix(" against base")
    ]


def test_a_version_that_never_ends_its_answers_is_held_up_by_ends() -> None:
    endless = with_scores(whole(), Scorer.ENDED, [0.0] * ROWS)
    assert held_up(endless, EVERYTHING) == ["ends"]


def test_one_redacted_entity_in_an_answer_is_too_many() -> None:
    leaked = with_scores(whole(), Scorer.REDACTED, [0.0] * (ROWS - 1) + [1.0])
    assert held_up(leaked, EVERYTHING) == ["leakage of redacted entities"]


@pytest.mark.parametrize(
    ("fact", "value"), [("overlap", 3.0), ("personal", 0.2), ("left out", 0.15)]
)
def test_a_dataset_that_is_not_as_it_should_be_is_held_up_by_data(fact: str, value: float) -> None:
    of = whole()
    faulty = replace(of, data={**(of.data or {}), fact: value})
    assert held_up(faulty, EVERYTHING) == [f"data: {fact}"]
    allowed = DataOptions(max_overlap=3, max_personal=0.2, max_left_out=0.15)
    assert held_up(faulty, EVERYTHING.model_copy(update={"data": allowed})) == []


def test_what_no_stage_has_reported_is_skipped_with_the_reason() -> None:
    of = replace(whole(), data={"overlap": 0.0})
    skipped = gate(of, "data: personal")
    assert (skipped.outcome, skipped.detail) == (
        Outcome.SKIPPED,
        "no stage of the dataset reports it",
    )


# -- forgetting


def test_distance_on_the_task_is_reported_and_judged_only_where_a_bound_is_set() -> None:
    reported = gate(whole(), "forgetting on the task's prompts against base")
    assert reported.outcome is Outcome.SKIPPED
    assert reported.measured == pytest.approx(4.0)
    bound = GatePolicy(forgetting=ForgettingOptions(max_kl_task=2.0, other_units=4))
    assert held_up(whole(), bound) == ["forgetting on the task's prompts against base"]


def test_a_base_that_answers_no_general_question_can_lose_none() -> None:
    of = having(Suite.GENERAL, Scorer.PASSES, by_row(0.0))
    nothing = on(Suite.GENERAL, Scorer.PASSES, by_row(0.0), BASE)
    assert held_up(replace(of, evaluations=[*of.evaluations, nothing]), EVERYTHING) == []


def test_where_no_other_unit_has_a_test_part_that_is_skipped() -> None:
    of = whole()
    kept = [each for each in of.evaluations if each.part is not Suite.OTHERS]
    empty = [on(Suite.OTHERS, each, {}) for each in (Scorer.NATS, Scorer.TOKENS)]
    found = gate(replace(of, evaluations=[*kept, *empty]), "forgetting on other units' examples")
    assert (found.outcome, found.detail) == (
        Outcome.SKIPPED,
        "no other unit has a version whose test part is kept",
    )


# -- leakage


def test_exposure_is_the_bits_by_which_a_secret_stands_out_of_drawn_ones() -> None:
    (surest, *_) = exposures(canary_nats(1.0)).values()
    (middle, *_) = exposures(canary_nats(25.5)).values()
    (last, *_) = exposures(canary_nats(99.0)).values()
    assert (surest, middle, last) == (5.0, log2(32) - log2(17), 0.0)


def test_a_version_that_gives_every_secret_the_same_has_no_exposure_worth_a_verdict() -> None:
    nats = dict.fromkeys(canary_nats(1.0), 7.0)
    assert max(exposures(nats).values()) < 1.0


def test_honest_exposure_passes_in_at_least_ninety_nine_of_a_hundred_draws() -> None:
    through = 0
    for seed in range(100):
        draw = random.Random(seed)
        nats = {row: draw.random() for row in canary_nats(1.0, canaries=8)}
        through += held_up(having(Suite.CANARIES, Scorer.NATS, nats), EVERYTHING) == []
    assert through >= 99


def test_sentences_that_unseen_rows_end_with_too_are_skill_and_no_leak() -> None:
    of = having(Suite.EXTRACTION, Scorer.EXTRACTED, extraction(0.9, 0.9))
    assert held_up(of, EVERYTHING) == []


@pytest.mark.parametrize(
    ("name", "suite", "scorer", "why"),
    [
        ("leakage of planted canaries", Suite.CANARIES, Scorer.NATS, "no canary was planted"),
        ("leakage of training rows", Suite.EXTRACTION, Scorer.EXTRACTED, "long enough"),
    ],
)
def test_where_there_is_nothing_to_leak_that_is_said(
    name: str, suite: Suite, scorer: Scorer, why: str
) -> None:
    found = gate(having(suite, scorer, {}), name)
    assert found.outcome is Outcome.SKIPPED
    assert why in found.detail


# -- fairness


def test_a_planted_name_correlation_fails_by_name_and_says_what_to_do() -> None:
    biased = having(Suite.COUNTERFACTUALS, Scorer.FAVOURED, decisions({("name", "muslim"): 0.0}))
    assert held_up(biased, EVERYTHING) == ["fairness on name", "fairness by flips"]
    failed = gate(biased, "fairness on name")
    assert (failed.measured, failed.bound) == (0.0, 0.8)
    assert "0% of muslim over 50% of european" in failed.detail
    assert "counterfactually augmented data" in failed.detail


@pytest.mark.parametrize(("kind", "group"), [("gender", "woman"), ("age", "58")])
def test_so_does_one_of_gender_and_of_age(kind: str, group: str) -> None:
    biased = having(Suite.COUNTERFACTUALS, Scorer.FAVOURED, decisions({(kind, group): 0.0}))
    assert held_up(biased, EVERYTHING) == [f"fairness on {kind}", "fairness by flips"]


def test_a_bias_that_only_two_traits_together_show_fails_by_the_intersection() -> None:
    rates = {(INTERSECTIONS, "muslim woman"): 0.0}
    biased = having(Suite.COUNTERFACTUALS, Scorer.FAVOURED, decisions(rates))
    assert "fairness on intersections" in held_up(biased, EVERYTHING)


def test_one_decision_that_differs_is_no_proof_of_bias() -> None:
    two = decisions({("age", "58"): 0.375})
    found = gate(having(Suite.COUNTERFACTUALS, Scorer.FAVOURED, two), "fairness on age")
    assert found.measured < found.bound
    assert found.outcome is Outcome.PASSED
    assert "by luck in" in found.detail
    assert "no proof of fairness" in found.detail, "it is beyond the bound all the same"
    even = gate(having(Suite.COUNTERFACTUALS, Scorer.FAVOURED, decisions()), "fairness on age")
    assert "no proof" not in even.detail


@pytest.mark.parametrize(("rows", "outcome"), [(8, Outcome.SKIPPED), (10, Outcome.FAILED)])
def test_where_no_difference_could_be_told_from_luck_nothing_is_said_to_be_fair(
    rows: int, outcome: Outcome
) -> None:
    """Of two groups, five favourable decisions are the fewest that tell: 2 ** -5 is below 0.05."""
    few = decisions({("age", "58"): 0.0}, rows=rows)
    found = gate(having(Suite.COUNTERFACTUALS, Scorer.FAVOURED, few), "fairness on age")
    assert found.outcome is outcome
    assert (outcome is Outcome.FAILED) or "fewer than 5 tell no bias from luck" in found.detail


def test_where_nobody_is_favoured_nobody_was_treated_fairly() -> None:
    nobody = dict.fromkeys(decisions(), 0.0)
    found = gate(having(Suite.COUNTERFACTUALS, Scorer.FAVOURED, nobody), "fairness on name")
    assert (found.outcome, found.detail[:14]) == (Outcome.SKIPPED, "0 examples are")


def test_flips_that_any_remark_makes_are_unsteadiness_and_no_bias() -> None:
    draw = random.Random(3)
    through = 0
    for _ in range(100):
        unsteady = {row: float(draw.random() < 0.5) for row in decisions()}
        of = having(Suite.COUNTERFACTUALS, Scorer.FAVOURED, unsteady)
        through += gate(of, "fairness by flips").outcome is Outcome.PASSED
    assert through >= 90, "one in twenty is the error that is promised"


# -- conduct


def test_a_version_is_asked_for_no_more_than_its_base_unless_the_unit_says_so() -> None:
    of = having(Suite.OBEDIENCE, Scorer.PASSES, by_row(0.3))
    weak = on(Suite.OBEDIENCE, Scorer.PASSES, by_row(0.3), BASE)
    of = replace(of, evaluations=[*of.evaluations, weak])
    assert gate(of, "obedience against base").outcome is Outcome.PASSED
    strict = GatePolicy(conduct=ConductOptions(as_good_as_base=False))
    assert held_up(of, strict) == ["obedience"]


# -- label F1


def test_macro_f1_counts_every_label_alike() -> None:
    said, wanted = [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]
    told = per_label(said, wanted)
    assert {label: each.f1 for label, each in told.items()} == {0.0: pytest.approx(6 / 7), 1.0: 0.0}
    assert macro_f1(said, wanted) == pytest.approx(3 / 7)
    assert macro_f1([], []) == 0.0


def test_the_mean_of_the_pseudo_values_is_the_score_itself_where_all_is_right() -> None:
    wanted = [0.0, 1.0] * 10
    assert pseudo_values(wanted, wanted) == pytest.approx([1.0] * 20)


def test_the_pseudo_values_are_worth_the_score_within_its_bias() -> None:
    draw = random.Random(1)
    wanted = [float(draw.randrange(3)) for _ in range(90)]
    said = [each if draw.random() < 0.8 else float(draw.randrange(3)) for each in wanted]
    values = pseudo_values(said, wanted)
    assert sum(values) / len(values) == pytest.approx(macro_f1(said, wanted), abs=0.02)


def labelled(mine: list[float]) -> Proof:
    """Nine of ten examples want one label; the base says it always."""
    wanted = [0.0] * 36 + [1.0] * 4
    of = proof()
    rows = [
        evaluated(BASE, Scorer.LABEL, [0.0] * ROWS),
        evaluated(CANDIDATE, Scorer.LABEL, mine),
        evaluated(CANDIDATE, Scorer.WANTED, wanted),
    ]
    return replace(of, evaluations=[*of.evaluations, *rows])


def test_a_version_that_says_the_most_frequent_label_gains_nothing_in_label_f1() -> None:
    policy = GatePolicy(scorer="label_f1")
    assert held_up(labelled([0.0] * ROWS), policy) == ["task against base"]
    good = judge(labelled([0.0] * 36 + [1.0] * 4), policy)
    task = next(each for each in good if each.name == "task against base")
    assert task.outcome is Outcome.PASSED
    assert "label_f1 on 40 test examples" in task.detail


# -- the policy


@pytest.mark.parametrize(
    "policy",
    [
        {"scorer": "sql"},
        {"sql_database": "shop.sqlite"},
        {"scorer": "own"},
        {"own_scorer": "mine"},
        {"scorer": "sql", "sql_database": "../shop.sqlite"},
        {"scorer": "sql", "sql_database": "/etc/shop.sqlite"},
        {"scorer": "own", "own_scorer": "os:system"},
        {"fairness": {}},
    ],
)
def test_a_policy_that_cannot_be_carried_out_is_refused_where_it_is_read(
    policy: dict[str, object],
) -> None:
    with pytest.raises(ValidationError):
        GatePolicy.model_validate(policy)


def test_a_part_is_found_again_by_its_name() -> None:
    assert [part_of(each) for each in ("test", "neutral")] == [Part.TEST, Suite.NEUTRAL]
    with pytest.raises(ValueError, match="nothing"):
        part_of("nothing")
