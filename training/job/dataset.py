"""A job's material: examples to train on, and the held-out questions it is measured by."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from adapters.domain.jobs import Job
from adapters.domain.recipes import Recipe
from adapters.domain.units import UnitConfig
from adapters.errors import InvalidRequest
from adapters.registry.ports import Files
from adapters.store import ArtifactStore
from training.data.examples import Example
from training.data.files import JobFiles, find_files, load_files
from training.data.jsonl import DataLine, refuse
from training.data.split import Split, split, trace
from training.evaluate.answers import Question
from training.finetune.port import FineTuner, Unrenderable

NAMED_LINES = 20
"""Lines named in an error; the rest is counted."""
ANSWER_SLACK = 16
"""Tokens an answer may be longer than its reference before it is cut."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where files are known and where their bytes are."""

    files: Files
    store: ArtifactStore


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a run learns from and is measured by."""

    files: JobFiles
    parts: Split
    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    questions: tuple[Question, ...]


def gather(
    job: Job, unit: UnitConfig, recipe: Recipe, *, sources: Sources, fine_tuner: FineTuner
) -> Material:
    """Files → examples, measured in tokens, deduplicated and split. The same for every attempt.

    Raises InvalidFile, and InvalidRequest when the base's chat template refuses an example.
    """
    files = find_files(job, sources.files)
    training, validation = load_files(files, sources.store, unit.limits)
    refuse_long("training_file", training, fine_tuner, recipe.max_length)
    if validation is not None:
        refuse_long("validation_file", validation, fine_tuner, recipe.max_length)
    parts = split(
        [trace(line) for line in training],
        None if validation is None else [trace(line) for line in validation],
        seed=job.seed,
        min_examples=unit.limits.min_examples,
    )
    train = _chosen(training, parts.train)
    held_out = _chosen(training if validation is None else validation, parts.held_out)
    wanted = min(unit.gates.evaluation_examples, len(held_out))
    drawn = random.Random(job.seed).sample(held_out, wanted)
    param = "training_file" if validation is None else "validation_file"
    return Material(
        files=files,
        parts=parts,
        train=tuple(line.example for line in train),
        held_out=tuple(line.example for line in held_out),
        questions=_questions(param, drawn, fine_tuner, max_length=recipe.max_length),
    )


def refuse_long(
    param: str, lines: Sequence[DataLine], fine_tuner: FineTuner, max_length: int
) -> None:
    """Raises InvalidFile naming the lines that are too long: nothing is ever cut off silently."""
    lengths = _measured(param, lines, lambda: fine_tuner.lengths([line.example for line in lines]))
    long = [
        f"line {line.number}: {tokens} tokens"
        for line, tokens in zip(lines, lengths, strict=True)
        if tokens > max_length
    ]
    if long:
        more = len(long) - NAMED_LINES
        named = [*long[:NAMED_LINES], *([f"and {more} more"] if more > 0 else [])]
        raise refuse(param, f"longer than the {max_length} tokens allowed: {'; '.join(named)}")


def _chosen(lines: Sequence[DataLine], numbers: Sequence[int]) -> list[DataLine]:
    wanted = set(numbers)
    return [line for line in lines if line.number in wanted]


def _measured(param: str, lines: Sequence[DataLine], measure: Callable[[], list[int]]) -> list[int]:
    """Token counts of `lines`. Raises InvalidRequest naming the line that cannot be rendered."""
    try:
        return measure()
    except Unrenderable as error:
        where = param.replace("_", " ").capitalize()
        raise InvalidRequest(
            f"{where}: line {lines[error.at].number}: {error.message}",
            param=param,
            code=error.reason,
        ) from error


def _questions(
    param: str, lines: Sequence[DataLine], fine_tuner: FineTuner, *, max_length: int
) -> tuple[Question, ...]:
    wholes = _measured(param, lines, lambda: fine_tuner.lengths([line.example for line in lines]))
    prompts = _measured(
        param, lines, lambda: fine_tuner.prompt_lengths([line.example.prompt for line in lines])
    )
    return tuple(
        Question(
            prompt=line.example.prompt,
            reference=line.example.answer,
            max_tokens=max(1, min(whole - prompt + ANSWER_SLACK, max_length - prompt)),
        )
        for line, whole, prompt in zip(lines, wholes, prompts, strict=True)
    )
