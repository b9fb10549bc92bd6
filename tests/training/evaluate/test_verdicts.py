"""From answers to gates."""

from __future__ import annotations

from adapters.domain.gates import GatePolicy, all_passed
from training.evaluate.answers import Answer
from training.evaluate.verdicts import Measured, agreement, judge, unservable

REFERENCES = [f"answer {at} is right" for at in range(20)]


def said(texts: list[str]) -> list[Answer]:
    return [Answer(text=text) for text in texts]


def measured(adapter: list[str], own: list[str] | None = None) -> Measured:
    return Measured(
        references=REFERENCES,
        base=said(["I do not know"] * 20),
        adapter=said(adapter),
        own=adapter if own is None else own,
    )


def failed(of: Measured, policy: GatePolicy | None = None) -> list[str]:
    gates = judge(of, policy or GatePolicy()).gates
    return [gate.gate for gate in gates if not gate.passed]


def test_a_good_candidate_passes_every_gate() -> None:
    judgement = judge(measured(REFERENCES), GatePolicy())
    assert all_passed(judgement.gates)
    assert judgement.evidence["held_out"]["examples"] == 20
    assert judgement.evidence["held_out"]["base"]["exact_match"] == 0.0
    assert judgement.evidence["held_out"]["adapter"]["exact_match"] == 1.0


def test_answers_as_the_base_gives_them_have_no_effect_and_no_gain() -> None:
    assert failed(measured(["I do not know"] * 20)) == ["effect", "held_out"]


def test_two_answers_in_twenty_may_differ_from_the_trainers_own_but_not_three() -> None:
    assert failed(measured(REFERENCES, ["x"] * 2 + REFERENCES[2:])) == []
    assert failed(measured(REFERENCES, ["x"] * 3 + REFERENCES[3:])) == ["fidelity"]


def test_a_gain_on_few_examples_by_luck_does_not_pass() -> None:
    lucky = [REFERENCES[0], *["I do not know"] * 19]
    assert "held_out" in failed(measured(lucky), GatePolicy(min_effect=0.0, min_gain=0.01))


def test_a_candidate_worse_than_the_base_does_not_pass() -> None:
    of = Measured(
        references=REFERENCES,
        base=said(REFERENCES),
        adapter=said(["wrong"] * 20),
        own=["wrong"] * 20,
    )
    assert failed(of) == ["held_out"]


def test_an_answer_cut_by_its_limit_agrees_as_far_as_it_goes() -> None:
    assert agreement(Answer(text="one two", cut=True), "one two three") == 1.0
    assert agreement(Answer(text="one two"), "one two three") == 0.0
    assert agreement(Answer(text="one six", cut=True), "one two three") == 0.0
    assert agreement(Answer(text=" one \n"), "one") == 1.0


def test_a_candidate_that_cannot_be_served_fails_its_artifact_gate() -> None:
    (gate,) = unservable("it answers 500").gates
    assert (gate.gate, gate.passed, gate.detail) == ("artifact", False, "it answers 500")
