"""Trains the base model: corpus, tokenizer, a Llama of a few million parameters, top to bottom.

The only part of `training.base` that imports torch, and only when a base must really be built.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from adapters.domain.recipes import RECIPE_FILE
from training.base.corpus import documents
from training.base.precision import Precision
from training.base.recipe import BaseRecipe
from training.base.tokenizer import END, train_tokenizer

if TYPE_CHECKING:
    from training.base.tasks import Chat

Say = Callable[[str], None]

TELL_EVERY = 20.0
"""Seconds without a word after which a slow machine's progress is told between the tenths."""


def pretrain(recipe: BaseRecipe, directory: Path, say: Say, *, precision: Precision) -> None:
    """Writes a complete Hugging Face model directory and its `recipe.json`."""
    torch.manual_seed(recipe.seed)
    sample = islice(
        documents(recipe.seed, chat_share=recipe.chat_share), recipe.tokenizer_documents
    )
    texts = (text for chat in sample for _, text in chat)
    tokenizer = train_tokenizer(texts, vocabulary=recipe.vocabulary)
    say(f"tokenizer: {len(tokenizer)} tokens")
    model = LlamaForCausalLM(_config(recipe, tokenizer))
    say(f"model: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters")
    say(f"training in {precision} on {recipe.tokens:,} tokens, in {recipe.steps} steps")
    _train(model, recipe, precision, _windows(recipe, tokenizer), say)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
    )
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory, save_jinja_files=False)
    advice = recipe.fine_tuning.model_dump_json(exclude_none=True, indent=2)
    (directory / RECIPE_FILE).write_text(advice + "\n", "utf-8")


def _config(recipe: BaseRecipe, tokenizer: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.feed_forward,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.positions,
        tie_word_embeddings=True,
        # a fifth faster than the fused kernel, whose backward pass is slow for short windows
        attn_implementation="eager",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _train(
    model: LlamaForCausalLM,
    recipe: BaseRecipe,
    precision: Precision,
    windows: Iterator[torch.Tensor],
    say: Say,
) -> None:
    """AdamW with warm-up and cosine decay over a fixed number of steps, however long they take."""
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=0.05,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=recipe.learning_rate, total_steps=recipe.steps, pct_start=0.1,
        cycle_momentum=False,
    )  # fmt: skip
    half = precision is Precision.BFLOAT16
    started = told = time.monotonic()
    model.train()
    for step in range(1, recipe.steps + 1):
        batch = torch.stack(list(islice(windows, recipe.batch)))
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        now = time.monotonic()
        if step % max(1, recipe.steps // 10) == 0 or now - told > TELL_EVERY:
            told = now
            say(progress(step, recipe.steps, loss=loss.item(), seconds=now - started))


def progress(step: int, steps: int, *, loss: float, seconds: float) -> str:
    """One line about a run that has taken so many seconds until `step`."""
    left = seconds / step * (steps - step)
    return f"step {step}/{steps}  loss {loss:.3f}  {seconds:.0f} s, about {left:.0f} s left"


def _windows(recipe: BaseRecipe, tokenizer: Any) -> Iterator[torch.Tensor]:
    """The corpus as an endless stream of token windows, documents one after the other."""
    pending: list[int] = []
    for chat in documents(recipe.seed + 1, chat_share=recipe.chat_share):
        pending += _tokens(chat, tokenizer)
        while len(pending) >= recipe.window:
            yield torch.tensor(pending[: recipe.window])
            pending = pending[recipe.window :]


def _tokens(chat: Chat, tokenizer: Any) -> list[int]:
    if chat[0][0] == "text":
        text = tokenizer.bos_token + chat[0][1] + END
    else:
        messages = [{"role": role, "content": content} for role, content in chat]
        text = tokenizer.apply_chat_template(messages, tokenize=False)
    return list(tokenizer.encode(text, add_special_tokens=False))
