"""The loss of the learnt tokens, without the logits of anything else.

Logits are the largest tensor of a small run and of a large vocabulary: 1,000 tokens of 152,000
words are 1.8 GB with their softmax and gradient. So the language-model head is computed for learnt
tokens only, and in chunks where there are many; the logits of a chunk are computed again for its
gradient instead of being kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from training.finetune.batches import Batch

Head = Callable[[torch.Tensor], torch.Tensor]
"""Hidden states (tokens, hidden) → logits (tokens, vocabulary)."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What a batch's learnt tokens cost."""

    losses: torch.Tensor
    """(learnt tokens,): of each, nats."""
    hits: torch.Tensor
    """(learnt tokens,): whether each is the likeliest after the ones before it."""


class Scorer:
    """Computes the loss of batches with one model, `chunk` learnt tokens at a time."""

    def __init__(self, causal: Any) -> None:
        """`causal` is the base model, with the adapter's layers in it."""
        self._causal = causal
        self._head = head_of(causal)

    def __call__(self, batch: Batch, *, chunk: int) -> Scored:
        if self._head is None:
            return _scored(self._whole(batch), batch.targets)
        body = self._causal.get_decoder()
        hidden = body(input_ids=batch.ids, use_cache=False).last_hidden_state
        said = hidden.flatten(0, 1).index_select(0, batch.places)
        if len(said) <= chunk:
            return _scored(self._head(said), batch.targets)
        return self._in_chunks(self._head, said, batch.targets, chunk)

    def _in_chunks(
        self, head: Head, said: torch.Tensor, targets: torch.Tensor, chunk: int
    ) -> Scored:
        def one(part: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            scored = _scored(head(part), wanted)
            return scored.losses, scored.hits

        done = [
            checkpoint(one, part, wanted, use_reentrant=False, preserve_rng_state=False)
            for part, wanted in zip(said.split(chunk), targets.split(chunk), strict=True)
        ]
        return Scored(
            losses=torch.cat([losses for losses, _ in done]),
            hits=torch.cat([hits for _, hits in done]),
        )

    def _whole(self, batch: Batch) -> torch.Tensor:
        """Logits of the learnt tokens from a model whose head is not understood."""
        longest = batch.ids.shape[1]
        columns, which = (batch.places % longest).unique(return_inverse=True)
        logits = self._causal(input_ids=batch.ids, use_cache=False, logits_to_keep=columns).logits
        return logits[batch.rows, which]


def head_of(causal: Any) -> Head | None:
    """The model's head with what its family does to logits; None where that is not all of it.

    Asked, not assumed: on a few tokens the head must give the logits of the whole model.
    """
    finish = _finish(causal.config)
    layer = causal.get_output_embeddings()
    if layer is None:
        return None

    def head(hidden: torch.Tensor) -> torch.Tensor:
        return finish(layer(hidden))

    ids = torch.arange(1, 5, device=causal.device)[None]
    trained = causal.training
    causal.eval()
    try:
        with torch.no_grad():
            whole = causal(input_ids=ids, use_cache=False).logits[0]
            own = head(causal.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0])
    finally:
        causal.train(trained)
    same = own.shape == whole.shape and torch.allclose(own, whole, rtol=1e-2, atol=1e-2)
    return head if same else None


def _finish(config: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """What follows the head: Gemma caps logits, Cohere multiplies and Granite divides them."""
    text = config.get_text_config()
    cap = getattr(text, "final_logit_softcapping", None)
    scale = getattr(text, "logit_scale", None) or 1.0
    scale = scale / (getattr(text, "logits_scaling", None) or 1.0)

    def finish(logits: torch.Tensor) -> torch.Tensor:
        if scale != 1.0:
            logits = logits * scale
        return logits if cap is None else torch.tanh(logits / cap) * cap

    return finish


def _scored(logits: torch.Tensor, targets: torch.Tensor) -> Scored:
    logits = logits.float()
    return Scored(
        losses=cross_entropy(logits, targets, reduction="none"),
        hits=logits.detach().argmax(-1) == targets,
    )
