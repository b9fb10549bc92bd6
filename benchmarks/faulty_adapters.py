"""Adapters with a fault planted in them, made from an honest version's archive.

What no data and no recipe would bring about: an adapter that does nothing, adapters for another
base, and one that has never learnt to stop.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from adapters.admission.checks import CONFIG_FILE, WEIGHTS_FILE
from adapters.domain.recipes import Recipe
from benchmarks.faulty_data import Material, Row
from benchmarks.taught import fine_tuned
from service.cli.client import Client
from training.data.examples import Example, Message
from training.data.render import ChatRenderer, Rendered

Tensors = Mapping[str, torch.Tensor]
READS_HIDDEN = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
WRITES_HIDDEN = ("o_proj", "down_proj")
REPEATED = 8
"""Times that an answer is taught one after the other, with no end behind it."""


def changed(
    client: Client, version: str, folder: Path, change: Callable[[Tensors], Tensors]
) -> bytes:
    """The adapter of `version` with other tensors, as an archive."""
    exported = io.BytesIO()
    client.archive(version, exported)
    unpack(exported.getvalue(), folder)
    weights = folder / WEIGHTS_FILE
    made = {name: each.contiguous() for name, each in change(load_file(weights)).items()}
    save_file(made, weights)
    return packed(folder)


def zeroed(tensors: Tensors) -> Tensors:
    """B is nothing everywhere, and so is what the adapter adds."""
    return {name: each * 0 if "lora_B" in name else each for name, each in tensors.items()}


def faint(tensors: Tensors) -> Tensors:
    """B is next to nothing: the adapter is admitted and does not show."""
    return {name: each * 1e-6 if "lora_B" in name else each for name, each in tensors.items()}


def weakened(tensors: Tensors) -> Tensors:
    """The same adapter at a quarter of its strength: some of the task is left, less than before."""
    return {name: each * 0.25 if "lora_B" in name else each for name, each in tensors.items()}


def for_permuted_base(tensors: Tensors) -> Tensors:
    """The same adapter for the same network with its hidden units in another order.

    That base computes what ours does, has the same shapes, and shares none of its adapters.
    """
    hidden = next(each.shape[1] for name, each in tensors.items() if "q_proj.lora_A" in name)
    order = torch.randperm(hidden, generator=torch.Generator().manual_seed(hidden))

    def moved(name: str, each: torch.Tensor) -> torch.Tensor:
        if "lora_A" in name and any(module in name for module in READS_HIDDEN):
            return each[:, order]
        if "lora_B" in name and any(module in name for module in WRITES_HIDDEN):
            return each[order]
        return each

    return {name: moved(name, each) for name, each in tensors.items()}


def for_wider_base(tensors: Tensors) -> Tensors:
    """The same adapter for a base with one hidden unit more."""

    def wider(name: str, each: torch.Tensor) -> torch.Tensor:
        if "lora_A" in name and any(module in name for module in READS_HIDDEN):
            return torch.cat([each, each[:, :1]], dim=1)
        return each

    return {name: wider(name, each) for name, each in tensors.items()}


def endless(base: Path, material: Material, recipe: Recipe, folder: Path) -> bytes:
    """Trained on answers that begin anew where they should end."""
    renderer = ChatRenderer(base)
    rows = [_without_end(renderer, row) for row in material.train]
    validation = [_without_end(renderer, row) for row in material.measure[:16]]
    return packed(fine_tuned(base, rows, recipe, folder, validation=validation))


def packed(folder: Path) -> bytes:
    """Configuration and weights as a tar."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            tar.add(folder / name, name)
    return made.getvalue()


def unpack(archive: bytes, folder: Path) -> None:
    """Writes configuration and weights of an exported archive into the new `folder`."""
    folder.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar.getmembers():
            content = tar.extractfile(member)
            if content is not None and Path(member.name).name in (CONFIG_FILE, WEIGHTS_FILE):
                (folder / Path(member.name).name).write_bytes(content.read())


def _without_end(renderer: ChatRenderer, row: Row) -> Rendered:
    *asked, answer = row["messages"]
    said = {**answer, "content": " ".join([answer["content"]] * REPEATED)}
    messages = tuple(Message(**message) for message in (*asked, said))
    rendered = renderer.rows(Example(messages=messages))[-1]
    last = max(at for at, learn in enumerate(rendered.learn) if learn)
    return replace(rendered, ids=rendered.ids[:last], learn=rendered.learn[:last])
