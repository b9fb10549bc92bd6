"""Greedy answers of a tuned model, by a forward pass of the tests' own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, GenerationConfig

from training.base.chat_format import ChatFormat, load_chat
from training.data.examples import Message
from training.data.render import prompt_ids
from training.finetune.batches import Padding


def forward(
    *,
    base: Path,
    adapter: Path,
    prompts: Sequence[Sequence[Message]],
    max_tokens: int,
    batch_size: int,
) -> list[str]:
    """Answers to `prompts` by the base with the adapter."""
    chat = load_chat(base)
    tokenizer = chat.tokenizer
    model = _load(base, adapter, chat)
    rows = [prompt_ids(chat, prompt) for prompt in prompts]
    by_length = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    pad = Padding(tokenizer.pad_token_id or 0)
    answers: dict[int, str] = {}
    for start in range(0, len(rows), batch_size):
        chosen = by_length[start : start + batch_size]
        said = _greedy(model, pad([{"input_ids": rows[i]} for i in chosen]), max_tokens)
        texts = (tokenizer.decode(ids, skip_special_tokens=True) for ids in said)
        answers.update(zip(chosen, texts, strict=True))
    return [answers[i] for i in range(len(rows))]


def _load(base: Path, adapter: Path, chat: ChatFormat) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(
        base, local_files_only=True, dtype=torch.float32
    )
    # the base's own generation config may sample
    model.generation_config = GenerationConfig(
        do_sample=False,
        eos_token_id=sorted(chat.ends),
        pad_token_id=chat.tokenizer.pad_token_id or 0,
    )
    return PeftModel.from_pretrained(model, adapter).eval()


def _greedy(model: Any, batch: dict[str, torch.Tensor], max_tokens: int) -> Iterator[list[int]]:
    """The token ids of each answer, up to its end."""
    prompt = batch["input_ids"].to(model.device)
    said = model.generate(
        input_ids=prompt,
        attention_mask=batch["attention_mask"].to(model.device),
        max_new_tokens=max_tokens,
    )
    ends = set(model.generation_config.eos_token_id)
    for ids in said[:, prompt.shape[1] :].tolist():
        yield list(takewhile(lambda token: token not in ends, ids))
