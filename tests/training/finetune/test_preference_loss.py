"""The losses of preferences, beside TRL's own on the same numbers."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from training.finetune.preference_loss import dpo, kto  # noqa: E402

BETA = 0.3


def said(rows: int, tokens: int = 5) -> Any:
    """Log-probabilities of the tokens of each answer, and what they were before training."""
    return -2.0 * torch.rand(rows, tokens), -2.0 * torch.rand(rows)


def trainer(**settings: Any) -> Any:
    """As much of a TRL trainer as its loss asks for, on one device."""

    def same(value: Any) -> Any:
        return value

    accelerator = SimpleNamespace(device="cpu", gather_for_metrics=same, gather=same)
    metrics = defaultdict(lambda: defaultdict(list))  # type: ignore[var-annotated]
    return SimpleNamespace(
        accelerator=accelerator,
        aux_loss_enabled=False,
        precompute_ref_logps=True,
        beta=BETA,
        model=SimpleNamespace(training=False),
        _metrics=metrics,
        use_weighting=False,
        _total_train_tokens=0,
        **settings,
    )


class Saying:
    """A model that gives these log-probabilities, one batch after the other."""

    def __init__(self, *batches: Any) -> None:
        self._batches = list(batches)

    def __call__(self, **_: Any) -> Any:
        log_probs = self._batches.pop(0)
        return SimpleNamespace(
            log_probs=log_probs,
            entropy=log_probs,
            mean_logits=log_probs,
            is_top1=torch.ones_like(log_probs, dtype=torch.bool),
        )


def test_the_loss_of_pairs_is_trls() -> None:
    from trl import DPOTrainer

    torch.manual_seed(3)
    tokens, then = said(8)
    theirs = trainer(
        ld_alpha=None,
        f_divergence_type="reverse_kl",
        loss_types=["sigmoid"],
        loss_weights=[1.0],
    )
    inputs = {
        "input_ids": torch.zeros(8, 6, dtype=torch.long),
        "attention_mask": torch.ones(8, 6, dtype=torch.long),
        "completion_mask": torch.ones(8, 6, dtype=torch.long),
        "ref_chosen_logps": then[:4],
        "ref_rejected_logps": then[4:],
    }
    loss = DPOTrainer._compute_loss(theirs, Saying(tokens), inputs, False)
    chosen, rejected = (tokens.sum(1) - then).chunk(2)
    assert dpo(chosen, rejected, beta=BETA).mean() == pytest.approx(float(loss), rel=1e-6)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_loss_of_single_answers_is_trls(seed: int) -> None:
    from trl import KTOTrainer

    torch.manual_seed(seed)
    (tokens, then), (others, others_then) = said(6), said(6)
    good = torch.tensor([True, False, True, True, False, False])
    theirs = trainer(
        calculate_KL=True, loss_type="kto", desirable_weight=1.0, undesirable_weight=1.0
    )
    theirs._compute_kl_logps = lambda model, batch: KTOTrainer._compute_kl_logps(
        theirs, model, batch
    )
    ids = torch.zeros(6, 6, dtype=torch.long)
    mask = torch.ones(6, 6, dtype=torch.long)
    inputs = {
        "input_ids": ids,
        "attention_mask": mask,
        "completion_mask": mask,
        "KL_input_ids": ids,
        "KL_attention_mask": mask,
        "KL_completion_mask": mask,
        "label": good,
        "ref_logps": then,
        "ref_KL_logps": others_then,
    }
    loss = KTOTrainer._compute_loss(theirs, Saying(others, tokens), inputs, False)
    drift = (others.sum(1) - others_then).mean().clamp(min=0.0)
    ours = kto(tokens.sum(1) - then, good, drift, beta=BETA)
    assert ours.mean() == pytest.approx(float(loss), rel=1e-6)


def test_before_training_a_pair_costs_a_coins_toss() -> None:
    nothing = torch.zeros(3)
    assert dpo(nothing, nothing, beta=BETA).tolist() == pytest.approx([0.6931] * 3, abs=1e-4)


def test_an_answer_is_cheaper_the_more_it_moves_as_it_was_judged() -> None:
    ratios, none = torch.tensor([0.0, 1.0, 2.0]), torch.zeros(())
    good, bad = torch.tensor([True] * 3), torch.tensor([False] * 3)
    assert kto(ratios, good, none, beta=BETA).diff().lt(0).all()
    assert kto(ratios, bad, none, beta=BETA).diff().gt(0).all()
