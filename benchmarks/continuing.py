"""What replay saves from forgetting, and what a warm start is ahead: small runs on one base.

    python -m benchmarks.continuing                       # the embedded base
    python -m benchmarks.continuing --base PATH --rows 400 --epochs 2

Three questions, with a job's own loop and recipe. *Forgetting*: how far (forward KL, nats a token)
an adapter's next tokens are from the base's, behind the base's own greedy answers to everyday
prompts that nothing was trained on; with a recipe's share of replay and without, beside what the
task's validation rows cost. *Warm start*: the validation loss before and after a short run on new
rows, begun with the base and with an adapter that was trained on other rows of the same task. The
last line is JSON. It needs no service: the base answers here, greedily, as it does there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from adapters.domain.recipes import (
    Hyperparameters,
    Recipe,
    RecipeOverrides,
    base_overrides,
    resolve,
)
from adapters.settings import cache_folder
from benchmarks.machine import machine, versions
from training.base.build import ensure_base
from training.base.chat_format import ChatFormat, load_chat
from training.data.examples import Example, Message
from training.data.preferences import Row
from training.data.render import ChatRenderer, Rendered
from training.evaluate.answers import Answer
from training.finetune.loaded_base import LoadedBase
from training.finetune.port import FineTuned, Task, Watch
from training.finetune.run import finetune
from training.job.replay import MAX_TOKENS, Joined, replay_row, replayed
from training.job.replay_prompts import replay_prompts

DATA = Path(__file__).parents[1] / "examples" / "data"
EVERYDAY = (
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "How do I boil an egg?",
    "Name three colours.",
    "Why is the sky blue?",
    "Tell me something about cats.",
    "What is the opposite of cold?",
    "Who wrote Romeo and Juliet?",
    "What is water made of?",
    "Where does the sun rise?",
    "Say hello to a new colleague.",
    "How long is a year?",
    "What do bees make?",
    "What is two plus three?",
    "Give me a word that rhymes with house.",
    "What can I cook with potatoes?",
)
"""None is of a form that is replayed."""


def main() -> None:
    """Measures and prints."""
    chosen = _arguments()
    path = chosen.base or ensure_base(cache_folder())
    bench = Bench(path, chosen)
    result = {
        "machine": machine(),
        "versions": versions(),
        "rows": chosen.rows,
        "forgetting": bench.forgetting(),
        "warm_start": bench.warm_start(),
    }
    print(json.dumps(result))


class Bench:
    """One base, one unit's rows, and runs on them."""

    def __init__(self, base: Path, chosen: argparse.Namespace) -> None:
        self._chosen, self._loaded, self._renderer = chosen, LoadedBase(base), ChatRenderer(base)
        self._chat = load_chat(base)
        self._recipe = resolve(
            base=base_overrides(base), unit=RecipeOverrides(), job=Hyperparameters()
        ).model_copy(update={"n_epochs": chosen.epochs, "evaluations": 2, "patience": 2})
        self._train = self._rows("train")
        self._validation = self._rows("valid")
        self._scratch = Path(tempfile.mkdtemp(prefix="continuing-"))

    def forgetting(self) -> dict[str, Any]:
        """With and without replay, on the same rows of the task."""
        task = self._train[: self._chosen.rows]
        prompts = replay_prompts()[: replayed(self._chosen.share, len(task))]
        said = self._said(prompts, MAX_TOKENS)
        made = (replay_row(self._renderer, *each) for each in zip(prompts, said, strict=True))
        replay = [row for row in made if row is not None]
        asked = list(self._everyday())
        without = self._run("without", task)
        mixed = self._run("with", Joined(task, replay))
        return {
            "share": self._chosen.share,
            "replayed_rows": len(replay),
            "without": self._measured(without, asked),
            "with": self._measured(mixed, asked),
        }

    def warm_start(self) -> dict[str, Any]:
        """A short run on new rows, begun twice."""
        half = self._chosen.rows
        first = self._run("first", self._train[:half])
        news = self._train[half : half + self._chosen.rows // 2]
        short = self._recipe.model_copy(update={"n_epochs": 1.0})
        cold = self._run("cold", news, short)
        warm = self._run("warm", news, short, start=first.directory)
        return {name: _losses(run) for name, run in (("cold", cold), ("warm", warm))}

    def _run(
        self,
        name: str,
        rows: Sequence[Row],
        recipe: Recipe | None = None,
        *,
        start: Path | None = None,
    ) -> FineTuned:
        task = Task(
            train=rows,
            validation=self._validation,
            recipe=recipe or self._recipe,
            workdir=self._scratch / name,
            start=start,
        )
        watch = Watch(step=lambda _: None, stopping=lambda: False, planned=lambda *_: None)
        return finetune(self._loaded, task, watch)

    def _rows(self, part: str) -> list[Rendered]:
        lines = (DATA / self._chosen.unit / f"{part}.jsonl").read_text("utf-8").splitlines()
        examples = (json.loads(line)["messages"] for line in lines if line)
        return [
            row
            for messages in examples
            for row in self._renderer.rows(
                Example(messages=tuple(Message(**message) for message in messages))
            )
        ]

    def _said(self, prompts: Sequence[str], tokens: int) -> list[Answer]:
        ends = sorted(self._chat.ends)
        found = []
        for ids in self._answers(prompts, tokens):
            kept = [token for token in ids if token not in ends]
            text = self._chat.tokenizer.decode(kept, skip_special_tokens=True)
            found.append(Answer(text=text, cut=len(kept) == len(ids)))
        return found

    def _answers(self, prompts: Sequence[str], tokens: int) -> Iterator[list[int]]:
        """Greedy tokens of the bare base, one prompt at a time: no padding that it could see."""
        model = self._loaded.model(dtype=torch.float32, device="cpu").eval()
        ends = sorted(self._chat.ends)
        for prompt in prompts:
            ids = _prompt(self._chat, prompt)
            with torch.inference_mode():
                said = model.generate(
                    input_ids=torch.tensor([ids]),
                    attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                    max_new_tokens=tokens,
                    do_sample=False,
                    eos_token_id=ends,
                    pad_token_id=ends[0],
                )
            yield said[0, len(ids) :].tolist()

    def _everyday(self) -> Iterator[tuple[list[int], int]]:
        """(tokens, where the base's own answer begins)."""
        for prompt, said in zip(EVERYDAY, self._answers(EVERYDAY, 32), strict=True):
            ids = _prompt(self._chat, prompt)
            yield ids + said, len(ids)

    def _measured(self, run: FineTuned, asked: Sequence[tuple[list[int], int]]) -> dict[str, Any]:
        far = [self._far(run.directory, ids, start) for ids, start in asked]
        return {"kl_to_base": round(sum(far) / len(far), 4), **_losses(run)}

    def _far(self, adapter: Path, ids: list[int], start: int) -> float:
        base = self._next(self._loaded.model(dtype=torch.float32, device="cpu").eval(), ids, start)
        with self._loaded.with_adapter(adapter, dtype=torch.float32, device="cpu") as tuned:
            own = self._next(tuned, ids, start)
        return float((base.exp() * (base - own)).sum(-1).mean())

    def _next(self, model: Any, ids: list[int], start: int) -> torch.Tensor:
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        log_probs: torch.Tensor = logits[start - 1 : -1].float().log_softmax(-1)
        return log_probs


def _prompt(chat: ChatFormat, prompt: str) -> list[int]:
    return chat.prompt_ids([{"role": "user", "content": prompt}])


def _losses(run: FineTuned) -> dict[str, Any]:
    return {
        "steps": run.steps,
        "validation_loss_before": round(run.first_loss, 4),
        "validation_loss": round(run.best_loss, 4),
        "validation_answers_right": round(run.best_answers, 4),
    }


def _arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.continuing")
    arguments.add_argument("--base", type=Path, help="a model's folder; default: the embedded one")
    arguments.add_argument("--unit", default="support", help="whose examples, of examples/data")
    arguments.add_argument("--rows", type=int, default=400)
    arguments.add_argument("--epochs", type=float, default=2.0)
    arguments.add_argument("--share", type=float, default=0.2, help="of replay")
    return arguments.parse_args()


if __name__ == "__main__":
    main()
