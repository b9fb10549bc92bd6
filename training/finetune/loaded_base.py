"""One base model in memory for a whole job: what is trained on it and what is asked of it after.

An adapter's layers are put into the loaded base and taken out again; its weights are read from
disk once, unless they are wanted in another precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from adapters.admission.adapter_config import parse_config
from adapters.admission.checks import CONFIG_FILE, WEIGHTS_FILE
from adapters.domain.recipes import Quantization, Recipe
from training.finetune.device_plan import BaseSize, DevicePlan
from training.finetune.nf4 import leave_unpacked, nf4_options, quantisable


class LoadedBase:
    """The base model in a folder, read when it is first needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._model: Any = None
        self._held = Quantization.NONE

    @contextmanager
    def with_lora(
        self, recipe: Recipe, plan: DevicePlan, *, start: Path | None = None
    ) -> Iterator[Any]:
        """The base with an adapter to train: a new one, whose numbers follow from the recipe's
        seed, or the one in `start`, of the same rank and layers.
        """
        base = self.model(
            dtype=getattr(torch, plan.precision),
            device=plan.device,
            attention=plan.attention,
            quantization=plan.quantization,
        )
        torch.manual_seed(recipe.seed)
        model = get_peft_model(base, _lora(recipe)).train()
        if start is not None:
            _begin_with(model, start, alpha=recipe.alpha)
        if plan.gradient_checkpointing:
            recompute_activations(model)
        try:
            yield model
        finally:
            base.gradient_checkpointing_disable()
            model.unload()

    @contextmanager
    def with_adapter(self, adapter: Path, *, dtype: torch.dtype, device: str) -> Iterator[Any]:
        """The base with a finished adapter, to be asked."""
        model = PeftModel.from_pretrained(self.model(dtype=dtype, device=device), adapter)
        try:
            yield model.eval()
        finally:
            model.unload()

    def model(
        self,
        *,
        dtype: torch.dtype,
        device: str,
        attention: str = "sdpa",
        quantization: Quantization = Quantization.NONE,
    ) -> Any:
        """The bare base; in four bits only where that is asked for."""
        if self._model is None or (dtype, quantization) != (self._model.dtype, self._held):
            self._model = None  # two would need twice the room
            self._model = AutoModelForCausalLM.from_pretrained(
                self.path,
                local_files_only=True,
                dtype=dtype,
                attn_implementation=attention,
                **nf4_options(dtype, device) if quantization is Quantization.NF4 else {},
            )
            self._held = quantization
            leave_unpacked(self._model)
        self._model.set_attn_implementation(attention)
        # a quantised one is where it was loaded
        return self._model.to(device) if quantization is Quantization.NONE else self._model

    @property
    def stored_dtype(self) -> torch.dtype:
        """In which its weights are stored."""
        return getattr(self._config, "dtype", None) or torch.float32

    def size(self, recipe: Recipe) -> BaseSize:
        """What decides about memory, seen without the weights.

        Configurations name these alike but for a few.
        """
        text = self._config.get_text_config()
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(self._config)
        adapted = [
            part
            for name, part in empty.named_modules()
            if name.rpartition(".")[2] in recipe.target_modules and hasattr(part, "in_features")
        ]
        return BaseSize(
            parameters=sum(part.numel() for part in empty.parameters()),
            quantisable=sum(part.weight.numel() for part in quantisable(empty)),
            adapter=recipe.rank * sum(part.in_features + part.out_features for part in adapted),
            layers=text.num_hidden_layers,
            hidden=text.hidden_size,
            feed_forward=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
            heads=text.num_attention_heads,
            vocabulary=text.vocab_size,
        )

    @cached_property
    def _config(self) -> Any:
        return AutoConfig.from_pretrained(self.path, local_files_only=True)


def _begin_with(model: Any, start: Path, *, alpha: float) -> None:
    """Gives the adapter the weights in `start`, as they act there, whatever its own alpha is.

    Raises ValueError where they are not all of the adapter's: the rest would be at random.
    """
    share = parse_config((start / CONFIG_FILE).read_bytes()).lora_alpha / alpha
    weights = {
        name: tensor * share if ".lora_B." in name else tensor
        for name, tensor in load_file(start / WEIGHTS_FILE).items()
    }
    learnt = sum(part.requires_grad for part in model.parameters())
    told = set_peft_model_state_dict(model, weights)
    if told.unexpected_keys or len(weights) != learnt:
        raise ValueError("the adapter to begin with has other layers than the one to train")


def recompute_activations(model: Any) -> None:
    """Keeps one number in ten for the gradient and computes the others twice."""
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def _lora(recipe: Recipe) -> LoraConfig:
    return LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=list(recipe.target_modules),
        task_type="CAUSAL_LM",
    )
