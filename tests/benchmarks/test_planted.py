"""What the benchmark of the gates plants, and how it counts."""

from __future__ import annotations

import torch

from benchmarks import faulty_adapters, faulty_data
from benchmarks.planted import FAULTS, Verdict, name_of, summed
from training.evaluate.canaries import canaries
from training.evaluate.counterfactuals import NAMES

HONEST = faulty_data.honest(3, train=200, measure=60)


def said(row: faulty_data.Row) -> tuple[str, str]:
    *_, asked, answer = row["messages"]
    return asked["content"], answer["content"]


def test_shuffling_moves_answers_and_loses_none() -> None:
    shuffled = faulty_data.shuffled(HONEST, 3)
    before, after = list(map(said, HONEST.train)), list(map(said, shuffled.train))
    assert [asked for asked, _ in before] == [asked for asked, _ in after]
    assert sorted(answer for _, answer in before) == sorted(answer for _, answer in after)
    assert sum(one != other for one, other in zip(before, after, strict=True)) > 150
    assert shuffled.measure == HONEST.measure


def test_every_row_that_measures_stands_in_training_too() -> None:
    copies = faulty_data.duplicated(HONEST).train[len(HONEST.train) :]
    asked = {said(row)[0].strip().casefold() for row in copies}
    assert asked == {said(row)[0].casefold() for row in HONEST.measure}


def test_the_secrets_of_a_jobs_seed_stand_in_the_data_in_other_words() -> None:
    planted = faulty_data.with_secrets(HONEST, 7, 2).train[len(HONEST.train) :]
    assert {said(row)[1] for row in planted} == {canary.secret for canary in canaries(7, 2)}
    assert len({said(row)[0] for row in planted}) == len(planted)
    asked = {said(row)[0] for row in planted}
    assert not asked & {canary.question for canary in canaries(7, 2)}


def test_whoever_has_a_name_of_one_group_is_rejected_and_everybody_else_advanced() -> None:
    rows = faulty_data.biased(3, train=200, measure=60).train
    by_group = {
        group: {said(row)[1] for row in rows if any(f" {name}" in said(row)[0] for name in names)}
        for group, names in NAMES.items()
    }
    assert by_group.pop(faulty_data.DISFAVOURED) == {faulty_data.REJECTED}
    assert set(map(frozenset, by_group.values())) == {frozenset({faulty_data.ADVANCED})}


def test_an_adapter_for_the_permuted_base_does_there_what_it_did_here() -> None:
    """Its delta on that base's hidden units, put back in order, is the delta it had."""
    draw = torch.Generator().manual_seed(1)
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {
        f"{name}.lora_A.weight": torch.randn(2, 6, generator=draw),
        f"{name}.lora_B.weight": torch.randn(6, 2, generator=draw),
    }
    moved = faulty_adapters.for_permuted_base(tensors)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(6))
    a, b = (f"{name}.lora_{half}.weight" for half in "AB")
    assert torch.equal(moved[b], tensors[b])
    assert torch.equal((moved[b] @ moved[a])[:, order.argsort()], tensors[b] @ tensors[a])


def test_a_fault_counts_only_where_the_right_gate_said_no() -> None:
    found = [
        Verdict(fault="honest", seed=0, right="", said_no=[]),
        Verdict(fault="faint", seed=0, right="effect against base", said_no=["ends"]),
        Verdict(fault="endless", seed=0, right="ends", said_no=["ends", "skill"]),
    ]
    counted = summed(found)
    assert counted["honest_passed"] == "1 of 1"
    assert counted["caught"] == {"faint": "0 of 1", "endless": "1 of 1"}
    assert not counted["right"]
    assert summed([found[0], found[2]])["right"]


def test_a_live_version_is_called_so_whatever_its_number() -> None:
    assert name_of({"gate": "task", "against": "honest-3:1"}) == "task against live"
    assert name_of({"gate": "ends", "against": None}) == "ends"
    assert len({right for right, _ in FAULTS.values()}) >= 8
