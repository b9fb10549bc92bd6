"""The numbers that training changes: the adapter, its optimizer, and the best adapter so far."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from adapters.domain.recipes import Recipe

TENSORS = "tensors.safetensors"
LARGEST_NORM = 1.0
"""Longer gradients are shortened to it."""
_MOMENTS = ("exp_avg", "exp_avg_sq")


class Trainee:
    """An adapter under training."""

    def __init__(self, model: Any, recipe: Recipe) -> None:
        """`model` is PEFT's; what of it wants a gradient is trained."""
        self._learnt = {
            name: numbers for name, numbers in model.named_parameters() if numbers.requires_grad
        }
        self._optimizer = torch.optim.AdamW(
            self._learnt.values(),
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self._best: dict[str, torch.Tensor] = {}

    @property
    def checkpoint_bytes(self) -> int:
        """The adapter, both moments of each of its numbers, and the best adapter."""
        return 4 * self.adapter_bytes

    @property
    def adapter_bytes(self) -> int:
        return sum(numbers.nbytes for numbers in self._learnt.values())

    def step(self, rate: float) -> None:
        """Moves the adapter along its gradients, at most `rate` far, and forgets them."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        torch.nn.utils.clip_grad_norm_(self._learnt.values(), LARGEST_NORM)
        self._optimizer.step()
        self.forget_gradients()

    def forget_gradients(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)

    def keep_as_best(self) -> None:
        """Remembers the adapter as it is now."""
        self._best = {
            name: numbers.detach().cpu().clone() for name, numbers in self._learnt.items()
        }

    def become_best(self) -> None:
        """Makes the adapter what it was when it was best."""
        with torch.no_grad():
            for name, numbers in self._best.items():
                self._learnt[name].copy_(numbers)

    def save(self, folder: Path) -> None:
        """Everything that `load` needs, as safetensors."""
        tensors = {f"adapter.{name}": numbers for name, numbers in self._learnt.items()}
        tensors |= {f"best.{name}": numbers for name, numbers in self._best.items()}
        for name, numbers in self._learnt.items():
            moments = self._optimizer.state[numbers]
            tensors |= {f"{moment}.{name}": moments[moment] for moment in _MOMENTS}
        save_file({name: part.detach().cpu() for name, part in tensors.items()}, folder / TENSORS)

    def load(self, folder: Path, *, step: int) -> None:
        """Goes back to what `save` wrote after `step` steps."""
        tensors = load_file(folder / TENSORS)
        with torch.no_grad():
            for name, numbers in self._learnt.items():
                numbers.copy_(tensors[f"adapter.{name}"])
        self._best = {
            name.removeprefix("best."): numbers
            for name, numbers in tensors.items()
            if name.startswith("best.")
        }
        moments = {
            at: {"step": torch.tensor(float(step))}
            | {moment: tensors[f"{moment}.{name}"] for moment in _MOMENTS}
            for at, name in enumerate(self._learnt)
        }
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})
