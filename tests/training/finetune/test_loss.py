"""The loss of learnt tokens: what the whole model would say, without its logits."""

from __future__ import annotations

import math
from typing import Any

import pytest

pytestmark = pytest.mark.slow

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM  # noqa: E402

from training.data.render import Rendered  # noqa: E402
from training.finetune.batches import collate  # noqa: E402
from training.finetune.loss import Scorer, head_of  # noqa: E402

VOCABULARY = 997
ROWS = [
    Rendered(ids=tuple(range(3, 3 + long)), learn=(False,) * 4 + (True,) * (long - 4))
    for long in (9, 30, 17)
]
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "gemma2": {"final_logit_softcapping": 3.0, "head_dim": 8},
    "granite": {"logits_scaling": 4.0},
    "cohere": {"logit_scale": 0.25},
    # multiplies what comes out of its head by a number that only itself knows of
    "falcon_h1": {"lm_head_multiplier": 0.3, "mamba_d_ssm": 32, "mamba_n_heads": 4},
}


@pytest.fixture(params=FAMILIES)
def causal(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(1)
    config = AutoConfig.for_model(
        request.param,
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        pad_token_id=0,
        **FAMILIES[request.param],
    )
    return AutoModelForCausalLM.from_config(config).float()


def by_hand(causal: Any) -> tuple[float, int]:
    """Sum of the losses and tokens right, by the model's own logits of one row at a time."""
    loss, right = 0.0, 0
    for row in ROWS:
        with torch.no_grad():
            logits = causal(input_ids=torch.tensor([row.ids])).logits[0].float()
        said = logits.log_softmax(-1)
        for at, learn in enumerate(row.learn):
            if learn:
                loss -= float(said[at - 1, row.ids[at]])
                right += int(said[at - 1].argmax()) == row.ids[at]
    return loss, right


@pytest.mark.parametrize("chunk", [1000, 7])
def test_the_loss_is_the_models_own_whatever_its_family_does_to_logits(
    causal: Any, chunk: int
) -> None:
    scored = Scorer(causal)(collate(ROWS), chunk=chunk)
    loss, right = by_hand(causal)
    assert float(scored.losses.detach().sum()) == pytest.approx(loss, rel=1e-4)
    assert int(scored.hits.sum()) == right
    assert len(scored.hits) == sum(sum(row.learn) for row in ROWS)


def test_a_head_that_is_not_understood_is_not_used(causal: Any) -> None:
    assert (head_of(causal) is None) == (causal.config.model_type == "falcon_h1")


class Largest(TorchDispatchMode):  # type: ignore[misc]
    """Remembers the numbers of the largest tensor that any operation made."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, tuple | list) else (out,):
            if isinstance(made, torch.Tensor):
                self.numbers = max(self.numbers, made.numel())
        return out


@pytest.fixture
def llama() -> Any:
    config = AutoConfig.for_model(
        "llama",
        vocab_size=20_000,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        max_position_embeddings=2048,
    )
    model = AutoModelForCausalLM.from_config(config)
    model.requires_grad_(False)
    model.model.layers[0].mlp.down_proj.weight.requires_grad_(True)
    return model


@pytest.mark.parametrize("training", [True, False])
def test_a_long_answer_never_has_all_its_logits_in_memory(llama: Any, training: bool) -> None:
    row = Rendered(ids=tuple(range(1000)), learn=(False,) * 10 + (True,) * 990)
    scorer, batch = Scorer(llama), collate([row])
    with Largest() as seen, torch.set_grad_enabled(training):
        scored = scorer(batch, chunk=50)
        if training:
            scored.losses.sum().backward()
    assert seen.numbers == 50 * 20_000
    assert math.isfinite(float(scored.losses.detach().sum()))


def test_chunks_give_the_gradient_of_the_whole(llama: Any) -> None:
    learnt = llama.model.layers[0].mlp.down_proj.weight
    row = Rendered(ids=tuple(range(200)), learn=(False,) * 10 + (True,) * 190)
    gradients = []
    for chunk in (1000, 33):
        learnt.grad = None
        Scorer(llama)(collate([row]), chunk=chunk).losses.sum().backward()
        gradients.append(learnt.grad.clone())
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-6)
