"""What plain PEFT makes of the same files with the same settings: no service, nothing of ours.

    python benchmarks/plain_peft.py --base FOLDER --train F --test F --recipe JSON

A loop over shuffled batches with AdamW and the recipe's schedule, on what the chat template
marks as the assistant's words; the last step is scored, by greedy answers to the test file.
`benchmarks/quality.py --plain` runs it beside the product. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoModelForCausalLM, AutoTokenizer

IGNORED = -100
ASKED_AT_ONCE = 32

Conversation = Sequence[Mapping[str, str]]
Row = tuple[list[int], list[int]]
"""Token ids, and labels that are `IGNORED` where nothing is learnt."""


def main() -> int:
    args = _arguments()
    recipe = json.loads(args.recipe)
    torch.manual_seed(recipe["seed"])
    tokenizer: Any = AutoTokenizer.from_pretrained(args.base, local_files_only=True)
    model: Any = AutoModelForCausalLM.from_pretrained(
        args.base, local_files_only=True, dtype=torch.float32
    )
    began = time.monotonic()
    tuned = train(model, [encoded(tokenizer, each) for each in _read(args.train)], recipe, args)
    trained = time.monotonic()
    right = score(tuned, tokenizer, _read(args.test))
    print(
        json.dumps(
            {
                "adapter": round(right, 4),
                "train_seconds": round(trained - began, 1),
                "score_seconds": round(time.monotonic() - trained, 1),
                "precision": args.precision,
            }
        )
    )
    return 0


def encoded(tokenizer: Any, conversation: Conversation) -> Row:
    """The conversation's tokens, of which the assistant's are learnt."""
    made = tokenizer.apply_chat_template(
        list(conversation), return_dict=True, return_assistant_tokens_mask=True
    )
    ids, learnt = made["input_ids"], made["assistant_masks"]
    labels = [token if learn else IGNORED for token, learn in zip(ids, learnt, strict=True)]
    return ids, labels


def train(model: Any, rows: Sequence[Row], recipe: Mapping[str, Any], args: Any) -> Any:
    """The model with an adapter that has seen `rows` for `n_epochs`."""
    lora = LoraConfig(
        r=recipe["rank"],
        lora_alpha=recipe["alpha"],
        lora_dropout=recipe["dropout"],
        target_modules=list(recipe["target_modules"]),
        task_type="CAUSAL_LM",
    )
    tuned: Any = get_peft_model(model, lora)
    tuned.train()
    learnt = [part for part in tuned.parameters() if part.requires_grad]
    optimizer = AdamW(learnt, lr=recipe["learning_rate"], weight_decay=recipe["weight_decay"])
    steps = round(math.ceil(len(rows) / recipe["batch_size"]) * recipe["n_epochs"])
    schedule = LambdaLR(optimizer, lambda step: _rate_share(recipe, step / steps))
    halves = args.precision == "bfloat16"
    for _, batch in zip(range(steps), _batches(rows, recipe), strict=False):
        with torch.autocast("cpu", torch.bfloat16, enabled=halves):
            inputs, labels = _padded(batch)
            logits = tuned(**inputs, use_cache=False).logits[:, :-1]
        loss = cross_entropy(
            logits.float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED
        )
        loss.backward()
        clip_grad_norm_(learnt, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return tuned


def score(model: Any, tokenizer: Any, conversations: Sequence[Conversation]) -> float:
    """Share of test conversations whose last message greedy decoding gives back."""
    model.eval()
    tokenizer.padding_side = "left"
    answers = [conversation[-1]["content"] for conversation in conversations]
    longest = max(len(tokenizer(answer)["input_ids"]) for answer in answers) + 1
    right = 0
    for start in range(0, len(conversations), ASKED_AT_ONCE):
        chosen = conversations[start : start + ASKED_AT_ONCE]
        prompts = tokenizer.apply_chat_template(
            [list(conversation[:-1]) for conversation in chosen],
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
            padding=True,
        )
        with torch.no_grad():
            said = model.generate(
                **prompts,
                max_new_tokens=longest,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )
        texts = tokenizer.batch_decode(
            said[:, prompts["input_ids"].shape[1] :], skip_special_tokens=True
        )
        wanted = answers[start : start + ASKED_AT_ONCE]
        right += sum(
            text.strip() == answer.strip() for text, answer in zip(texts, wanted, strict=True)
        )
    return right / len(conversations)


def _batches(rows: Sequence[Row], recipe: Mapping[str, Any]) -> Iterator[Sequence[Row]]:
    dice, size = random.Random(recipe["seed"]), recipe["batch_size"]
    while True:
        order = dice.sample(range(len(rows)), len(rows))
        for start in range(0, len(rows), size):
            yield [rows[i] for i in order[start : start + size]]


def _padded(batch: Sequence[Row]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    longest = max(len(ids) for ids, _ in batch)
    gaps = [longest - len(ids) for ids, _ in batch]
    ids = [ids + [0] * gap for (ids, _), gap in zip(batch, gaps, strict=True)]
    labels = [labels + [IGNORED] * gap for (_, labels), gap in zip(batch, gaps, strict=True)]
    mask = [[1] * (longest - gap) + [0] * gap for gap in gaps]
    inputs = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
    return inputs, torch.tensor(labels)


def _rate_share(recipe: Mapping[str, Any], progress: float) -> float:
    """The part of the learning rate in force when `progress` (0 to 1) of the run is done."""
    warmup = float(recipe["warmup_ratio"])
    if progress < warmup:
        return max(progress, 1e-3) / warmup
    rest = min(1.0, (progress - warmup) / (1.0 - warmup))
    shares = {"cosine": 0.5 * (1.0 + math.cos(math.pi * rest)), "linear": 1.0 - rest}
    return shares.get(str(recipe["scheduler"]), 1.0)


def _read(path: Path) -> list[Conversation]:
    lines = path.read_text("utf-8").splitlines()
    return [json.loads(line)["messages"] for line in lines if line]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="plain_peft.py", description=__doc__)
    for name in ("base", "train", "test"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--recipe", required=True, help="every setting of a job's recipe, as JSON")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
