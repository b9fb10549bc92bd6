"""Greedy answers of the trainer's own forward pass: what the served adapter is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from training.data.examples import Message
from training.data.render import load_tokenizer, prompt_ids
from training.finetune.batches import Padding


@dataclass(frozen=True, kw_only=True)
class Forward:
    """A greedy answer with one log-probability a token, the end token included."""

    text: str
    token_logprobs: tuple[float, ...]


def forward(
    *,
    base: Path,
    adapter: Path | None,
    prompts: Sequence[Sequence[Message]],
    max_tokens: int = 64,
    batch_size: int = 64,
) -> list[Forward]:
    """Answers to `prompts` by the base (and the adapter, where given) in float32."""
    tokenizer = load_tokenizer(base)
    model: Any = AutoModelForCausalLM.from_pretrained(
        base, local_files_only=True, dtype=torch.float32
    )
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    model.eval()
    rows = [prompt_ids(tokenizer, prompt) for prompt in prompts]
    by_length = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    answers: dict[int, Forward] = {}
    for start in range(0, len(rows), batch_size):
        chosen = by_length[start : start + batch_size]
        batch = Padding(tokenizer.pad_token_id or 0)([{"input_ids": rows[i]} for i in chosen])
        answers.update(zip(chosen, _greedy(model, tokenizer, batch, max_tokens), strict=True))
    return [answers[i] for i in range(len(rows))]


def _greedy(model: Any, tokenizer: Any, batch: Any, max_tokens: int) -> Iterator[Forward]:
    out = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        max_new_tokens=max_tokens,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
        pad_token_id=tokenizer.pad_token_id or 0,
    )
    said = out.sequences[:, batch["input_ids"].shape[1] :]
    scores = torch.stack(out.logits, 1).float().log_softmax(-1)
    chosen = scores.gather(-1, said.unsqueeze(-1)).squeeze(-1)
    ends = set(torch.as_tensor(model.generation_config.eos_token_id).flatten().tolist())
    for ids, logprobs in zip(said.tolist(), chosen.tolist(), strict=True):
        length = next((i + 1 for i, token in enumerate(ids) if token in ends), len(ids))
        text = tokenizer.decode(ids[:length], skip_special_tokens=True)
        yield Forward(text=text, token_logprobs=tuple(logprobs[:length]))
