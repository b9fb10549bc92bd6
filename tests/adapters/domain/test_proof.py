"""What the gates make of evaluations."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from adapters.domain.datasets import MIN_TEST, Part
from adapters.domain.evaluations import BASE, Evaluation, Scorer
from adapters.domain.gates import GatePolicy, GateResult, Outcome, all_passed
from adapters.domain.measured import Proof, Rival, ValidationLosses
from adapters.domain.names import Digest, JobId, Unit, VersionId
from adapters.domain.proof import drift_allowed, judge, tries

IDS = itertools.count(1)
LIVE = Rival(id=VersionId(1), name="support:1")
CANDIDATE = "support:2"
ROWS = 40


def evaluated(
    subject: str, scorer: Scorer, scores: Sequence[float] | Mapping[str, float], **changes: Any
) -> Evaluation:
    by_row = scores
    if not isinstance(scores, Mapping):
        by_row = {str(at): score for at, score in enumerate(scores)}
    number = None if subject == BASE else VersionId(int(subject.split(":")[1]))
    values: dict[str, Any] = {
        "id": next(IDS),
        "created_at": 0.0,
        "job_id": JobId("ftjob-1"),
        "unit": Unit("support"),
        "adapter": "support",
        "subject": subject,
        "version_id": number,
        "base_fingerprint": Digest("b" * 64),
        "dataset": "d" * 64,
        "part": Part.TEST,
        "scorer": scorer,
        "seed": 0,
        "conditions": {"dtype": "float32", "layers": 4, "slack": 8},
        "scores": by_row,
    }
    return Evaluation(**(values | changes))


def proof(
    mine: Sequence[float] = (1.0,) * ROWS,
    base: Sequence[float] = (0.0,) * ROWS,
    live: Sequence[float] | None = None,
    **changes: Any,
) -> Proof:
    """An honest version that knows everything, unless a test says otherwise."""
    rows = len(mine)
    evaluations = [
        evaluated(BASE, Scorer.TOKEN_F1, base),
        evaluated(BASE, Scorer.NATS, [9.0] * rows),
        evaluated(CANDIDATE, Scorer.TOKEN_F1, mine),
        evaluated(CANDIDATE, Scorer.NATS, [0.3] * rows),
        evaluated(CANDIDATE, Scorer.TOKENS, [3.0] * rows),
        evaluated(CANDIDATE, Scorer.DRIFT, [1e-5] * rows),
        evaluated(CANDIDATE, Scorer.ENDED, [1.0] * rows),
        evaluated(CANDIDATE, Scorer.FIXED, [0.25] * rows),
    ]
    if live is not None:
        evaluations.insert(0, evaluated(LIVE.name, Scorer.TOKEN_F1, live))
    values: dict[str, Any] = {
        "subject": CANDIDATE,
        "evaluations": evaluations,
        "rival": None if live is None else LIVE,
        "losses": ValidationLosses(chosen=0.1, lowest=0.1),
        "data": {"overlap": 0.0, "personal": 0.0, "left out": 0.0},
    }
    return Proof(**(values | changes))


def with_scores(of: Proof, scorer: Scorer, scores: Sequence[float]) -> Proof:
    """As if another evaluation of the candidate had followed."""
    return replace(of, evaluations=[*of.evaluations, evaluated(CANDIDATE, scorer, scores)])


def without(of: Proof, subject: str, scorer: Scorer) -> Proof:
    kept = [each for each in of.evaluations if (each.subject, each.scorer) != (subject, scorer)]
    return replace(of, evaluations=kept)


def gate(of: Proof, name: str, policy: GatePolicy | None = None) -> GateResult:
    return next(each for each in judge(of, policy or GatePolicy()) if each.name == name)


def held_up(of: Proof, policy: GatePolicy | None = None) -> list[str]:
    return [each.name for each in judge(of, policy or GatePolicy()) if each.holds_up]


def noisy(share_right: float, *, seed: int, number: int = ROWS) -> list[float]:
    draw = random.Random(seed)
    return [float(draw.random() < share_right) for _ in range(number)]


def test_a_good_version_passes_every_gate_and_each_says_its_number() -> None:
    gates = judge(proof(live=[1.0] * ROWS), GatePolicy())
    assert all_passed(gates)
    assert [(each.name, each.measured, each.bound, each.direction) for each in gates] == [
        ("artifact", 1.0, 1.0, "at_least"),
        ("effect against base", 1.0, 0.05, "at_least"),
        ("fidelity", pytest.approx(1e-5), 0.005, "at_most"),
        ("task against base", 1.0, 0.02, "at_least"),
        ("task against support:1", 0.0, -0.1, "at_least"),
        ("overfitting", pytest.approx(0.0), 0.35, "at_most"),
        ("skill against one answer", pytest.approx(0.75), 0.01, "at_least"),
        ("ends", 1.0, 0.9, "at_least"),
        ("data: overlap", 0.0, 0.0, "at_most"),
        ("data: personal", 0.0, 0.0, "at_most"),
        ("data: left out", 0.0, 0.1, "at_most"),
    ]


def test_the_same_rows_give_the_same_verdicts() -> None:
    of = proof(mine=noisy(0.9, seed=1), live=noisy(0.9, seed=2))
    assert judge(of, GatePolicy()) == judge(of, GatePolicy())


# -- task


def test_a_version_no_better_than_the_base_fails() -> None:
    assert held_up(proof(mine=[0.4] * ROWS, base=[0.4] * ROWS)) == ["task against base"]


def test_a_gain_that_may_be_luck_fails_and_says_so() -> None:
    lucky = gate(proof(mine=[1.0] + [0.0] * (ROWS - 1)), "task against base")
    assert lucky.outcome is Outcome.FAILED
    assert lucky.measured >= lucky.bound
    assert "not above zero: it may be luck" in lucky.detail


def test_a_sure_gain_below_the_bound_fails_and_is_not_called_luck() -> None:
    small = gate(proof(mine=[0.01] * ROWS), "task against base")
    assert small.outcome is Outcome.FAILED
    assert "luck" not in small.detail


@pytest.mark.parametrize("number", [1, MIN_TEST - 1])
def test_too_few_examples_prove_nothing_whatever_the_scores(number: int) -> None:
    few = proof(mine=[1.0] * number, base=[0.0] * number, live=[0.0] * number)
    assert held_up(few) == [
        "task against base",
        "task against support:1",
        "skill against one answer",
    ]
    assert f"fewer than {MIN_TEST} prove nothing" in gate(few, "task against base").detail


def test_the_fewest_examples_that_count_can_pass() -> None:
    enough = proof(mine=[1.0] * MIN_TEST, base=[0.0] * MIN_TEST, live=[1.0] * MIN_TEST)
    assert held_up(enough) == []


def test_a_version_worse_than_the_live_one_fails_although_it_beats_the_base() -> None:
    worse = proof(mine=[1.0] * 30 + [0.0] * 10, live=[1.0] * 40)
    assert held_up(worse) == ["task against support:1"]


def test_a_version_about_as_good_fails_where_the_examples_cannot_tell() -> None:
    unsure = proof(mine=noisy(0.7, seed=3), live=noisy(0.7, seed=4))
    assert held_up(unsure) == ["task against support:1"]
    assert "more test examples would tell" in gate(unsure, "task against support:1").detail


def test_a_better_version_replaces_the_live_one() -> None:
    assert held_up(proof(live=[0.5] * ROWS)) == []


def test_without_a_live_version_only_the_base_is_compared() -> None:
    assert gate(proof(), "task against live").outcome is Outcome.SKIPPED


def test_a_live_version_that_cannot_be_served_holds_nothing_up() -> None:
    broken = replace(LIVE, unservable="the service cannot serve support:1")
    of = proof(rival=broken)
    assert gate(of, "task against support:1").outcome is Outcome.SKIPPED
    assert all_passed(judge(of, GatePolicy()))


def test_scores_of_other_rows_or_conditions_are_not_compared() -> None:
    of = proof(live=[1.0] * ROWS)
    fewer = proof(mine=[1.0] * (ROWS + 1), base=[0.0] * ROWS)
    assert gate(fewer, "task").outcome is Outcome.ERROR
    for change in ({"conditions": {"slack": 99}}, {"base_fingerprint": "0" * 64}, {"seed": 1}):
        others = [
            replace(each, **change) if each.subject == LIVE.name else each
            for each in of.evaluations
        ]
        assert gate(replace(of, evaluations=others), "task").outcome is Outcome.ERROR


def test_scores_of_several_evaluations_of_the_base_are_put_together() -> None:
    of = without(proof(), BASE, Scorer.TOKEN_F1)
    halves = [
        evaluated(BASE, Scorer.TOKEN_F1, {str(at): 0.0 for at in range(start, start + 20)})
        for start in (0, 20)
    ]
    assert held_up(replace(of, evaluations=[*halves, *of.evaluations])) == []


def test_the_policy_names_the_scorer() -> None:
    of = proof()
    assert gate(of, "task", GatePolicy(scorer="exact_match")).outcome is Outcome.ERROR
    both = [
        evaluated(s, Scorer.EXACT_MATCH, [v] * ROWS) for s, v in ((BASE, 0.0), (CANDIDATE, 0.5))
    ]
    of = replace(of, evaluations=[*of.evaluations, *both])
    found = gate(of, "task against base", GatePolicy(scorer="exact_match"))
    assert (found.measured, found.outcome) == (0.5, Outcome.PASSED)


def test_repeated_tries_share_the_doubt() -> None:
    live = noisy(0.9, seed=5)
    mine = [0.0 if at == 7 else score for at, score in enumerate(live)]
    policy = GatePolicy(margin=0.07)
    once = proof(mine=mine, live=live)
    again = once
    for _ in range(9):
        again = with_scores(again, Scorer.TOKEN_F1, mine)
    first, tenth = (gate(of, "task against support:1", policy) for of in (once, again))
    assert (first.outcome, tenth.outcome) == (Outcome.PASSED, Outcome.FAILED)
    assert "95.0% sure" in first.detail
    assert "99.5% sure" in tenth.detail
    assert "as try 10" in tenth.detail


def test_tries_of_other_versions_on_the_same_test_part_count_until_one_goes_live() -> None:
    of = proof(live=[1.0] * ROWS)
    failed_before = evaluated("support:3", Scorer.TOKEN_F1, [0.0] * ROWS)
    other_rows = {f"other {at}": 0.0 for at in range(ROWS)}
    elsewhere = evaluated("support:4", Scorer.TOKEN_F1, other_rows)
    mine = evaluated("support:5", Scorer.TOKEN_F1, [0.0] * ROWS)
    later = evaluated("support:6", Scorer.TOKEN_F1, [0.0] * ROWS)
    of = replace(of, evaluations=[*of.evaluations, failed_before, elsewhere, mine, later])
    assert tries(of, mine) == 3  # support:2, support:3 and itself
    now_live = replace(of, rival=Rival(id=VersionId(3), name="support:3"))
    assert tries(now_live, mine) == 1


def changed(scores: Sequence[float], *, lost: float, won: float, seed: int) -> list[float]:
    """Another training's scores on the same rows: shares of all rows lost and won."""
    draw = random.Random(seed)
    right = sum(scores) / len(scores)
    lose, win = lost / right, won / (1.0 - right)
    return [
        float(draw.random() >= lose) if score else float(draw.random() < win) for score in scores
    ]


def test_a_retraining_on_half_shuffled_answers_never_replaces_a_good_version() -> None:
    """It loses a fifth of what was right: 64 examples tell that in ten of ten draws."""
    for seed in range(10):
        live = noisy(0.9, seed=seed, number=64)
        worse = changed(live, lost=0.25, won=0.02, seed=1000 + seed)
        of = proof(mine=worse, base=[0.0] * 64, live=live)
        assert held_up(of) == ["task against support:1"], f"seed {seed}"


def test_an_honest_retraining_replaces_its_equal_in_at_least_eight_of_ten_draws() -> None:
    """Where a twentieth of the answers differ; docs/concepts.md has the rates of other shares."""
    through = 0
    for seed in range(40):
        live = noisy(0.9, seed=seed, number=64)
        equal = changed(live, lost=0.025, won=0.025, seed=1000 + seed)
        through += held_up(proof(mine=equal, base=[0.0] * 64, live=live)) == []
    assert through >= 32


# -- effect and fidelity


def test_an_adapter_that_moves_nothing_has_no_effect() -> None:
    inert = with_scores(proof(), Scorer.NATS, [9.0] * ROWS)
    assert "effect against base" in held_up(inert)


def test_an_effect_within_the_engines_own_noise_is_none() -> None:
    noise = [9.0 + 3 * 0.004 * (-1) ** at for at in range(ROWS)]
    assert gate(with_scores(proof(), Scorer.NATS, noise), "effect against base").measured == 0.0


def test_a_service_that_computes_something_else_fails_fidelity() -> None:
    of = with_scores(proof(), Scorer.DRIFT, [0.3] * ROWS)
    failed = gate(of, "fidelity")
    assert failed.outcome is Outcome.FAILED
    assert failed.measured == pytest.approx(0.3)


def test_the_bound_of_fidelity_follows_the_dtype_and_the_depth() -> None:
    assert drift_allowed("float32", 4) == 0.005
    assert drift_allowed("float16", 30) < drift_allowed("bfloat16", 30)
    assert drift_allowed("bfloat16", 4) < drift_allowed("bfloat16", 30) < 0.5
    assert drift_allowed("unknown", 4) == drift_allowed("bfloat16", 4)


def test_a_policy_may_set_the_bound_of_fidelity() -> None:
    of = with_scores(proof(), Scorer.DRIFT, [0.3] * ROWS)
    assert gate(of, "fidelity", GatePolicy(max_drift=0.4)).outcome is Outcome.PASSED


def test_what_was_not_measured_is_an_error_and_no_verdict() -> None:
    for scorer in (Scorer.DRIFT, Scorer.NATS, Scorer.TOKEN_F1):
        outcomes = {
            each.outcome for each in judge(without(proof(), CANDIDATE, scorer), GatePolicy())
        }
        assert Outcome.ERROR in outcomes
        assert Outcome.FAILED not in outcomes


def test_where_every_reference_is_too_long_to_be_scored_those_gates_are_skipped() -> None:
    of = proof()
    for scorer in (Scorer.NATS, Scorer.TOKENS, Scorer.DRIFT):
        of = with_scores(of, scorer, [])
    skipped = [each.gate for each in judge(of, GatePolicy()) if each.outcome is Outcome.SKIPPED]
    assert skipped == ["effect", "fidelity", "task", "overfitting"]


# -- overfitting


def test_a_checkpoint_far_above_its_lowest_validation_loss_fails() -> None:
    of = proof(losses=ValidationLosses(chosen=0.9, lowest=0.3))
    assert gate(of, "overfitting").measured == pytest.approx(0.6)
    assert held_up(of) == ["overfitting"]


def test_a_test_loss_surely_far_above_the_validation_loss_fails() -> None:
    of = with_scores(proof(), Scorer.NATS, [2.1] * ROWS)
    assert gate(of, "overfitting").measured == pytest.approx(0.6)
    assert held_up(of) == ["overfitting"]


def test_a_test_loss_that_a_few_hard_examples_make_is_no_overfitting() -> None:
    hard = [0.3] * (ROWS - 1) + [75.0]
    of = with_scores(proof(), Scorer.NATS, hard)
    assert gate(of, "overfitting").outcome is Outcome.PASSED


def test_without_validation_losses_overfitting_is_skipped() -> None:
    assert gate(proof(losses=None), "overfitting").outcome is Outcome.SKIPPED


def test_a_run_that_kept_only_its_end_is_held_up_by_how_well_it_knows_its_training_rows() -> None:
    """Its one checkpoint is its lowest, and the test part is as bad as the validation part."""
    memorised = ValidationLosses(chosen=0.8, lowest=0.8, trained=0.01)
    assert held_up(proof(losses=memorised)) == ["overfitting"]
    found = gate(proof(losses=memorised), "overfitting")
    assert found.measured == pytest.approx(0.79)
    assert "0.010 on the training rows" in found.detail
    learnt = ValidationLosses(chosen=0.31, lowest=0.3, trained=0.28)
    assert held_up(proof(losses=learnt)) == []


# -- skill


def test_a_version_that_has_learnt_the_manner_alone_is_held_up_by_skill() -> None:
    """Shuffled answers teach what answers are like: that beats the base, and nothing else."""
    manner = proof(mine=noisy(0.25, seed=1))
    assert held_up(manner) == ["skill against one answer"]
    found = gate(manner, "skill against one answer")
    assert found.measured < 0.01
    assert "which scores 0.250" in found.detail


def test_skill_is_not_asked_for_where_all_examples_want_the_same() -> None:
    alike = replace(proof(), evaluations=[*proof().evaluations, fixed(0.97)])
    found = next(each for each in judge(alike, GatePolicy()) if each.gate == "skill")
    assert found.outcome is Outcome.SKIPPED
    assert held_up(alike) == []


def test_a_unit_can_ask_for_more_skill_or_for_none() -> None:
    assert held_up(proof(), GatePolicy(min_skill=0.9)) == ["skill against one answer"]
    names = [each.gate for each in judge(proof(), GatePolicy(min_skill=None))]
    assert "skill" not in names


def test_skill_that_nobody_has_measured_is_an_error() -> None:
    unmeasured = without(proof(), CANDIDATE, Scorer.FIXED)
    found = next(each for each in judge(unmeasured, GatePolicy()) if each.gate == "skill")
    assert found.outcome is Outcome.ERROR


def test_skill_by_labels_is_a_lead_in_label_f1() -> None:
    wanted = [float(at % 4) for at in range(ROWS)]
    labels = [
        *proof().evaluations,
        evaluated(BASE, Scorer.LABEL, [-1.0] * ROWS),
        evaluated(CANDIDATE, Scorer.WANTED, wanted),
        fixed(2.0),
    ]
    policy = GatePolicy(scorer="label_f1")
    right = replace(proof(), evaluations=[*labels, evaluated(CANDIDATE, Scorer.LABEL, wanted)])
    assert held_up(right, policy) == []
    same = evaluated(CANDIDATE, Scorer.LABEL, [1.0] * ROWS)
    stubborn = replace(proof(), evaluations=[*labels, same])
    assert held_up(stubborn, policy) == ["skill against one answer"]


def test_what_the_data_of_an_import_held_is_not_known() -> None:
    found = [each for each in judge(proof(data=None), GatePolicy()) if each.gate.startswith("data")]
    assert [each.outcome for each in found] == [Outcome.SKIPPED] * 3
    assert all("imported" in each.detail for each in found)


def fixed(score: float) -> Evaluation:
    return evaluated(CANDIDATE, Scorer.FIXED, [score] * ROWS)
