"""A job's material: examples to train on, and the held-out questions it is measured by."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from adapters.domain.jobs import Job
from adapters.domain.recipes import Recipe
from adapters.domain.units import UnitConfig
from adapters.errors import InvalidRequest
from adapters.registry.ports import Files
from adapters.store import ArtifactStore
from training.base.chat_format import TemplateError
from training.data.files import JobFiles, find_files, load_files
from training.data.jsonl import DataLine, refuse
from training.data.questions import Question
from training.data.render import Rendered, Renderer
from training.data.split import Split, split, trace

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
    train: tuple[Rendered, ...]
    held_out: tuple[Rendered, ...]
    questions: tuple[Question, ...]


def gather(
    job: Job, unit: UnitConfig, recipe: Recipe, *, sources: Sources, renderer: Renderer
) -> Material:
    """Files → examples, measured in tokens, deduplicated and split. The same for every attempt.

    Raises InvalidFile, and InvalidRequest when the base's chat template refuses an example.
    """
    files = find_files(job, sources.files)
    training, validation = load_files(files, sources.store, unit.limits)
    refuse_long("training_file", training, renderer, recipe.max_length)
    if validation is not None:
        refuse_long("validation_file", validation, renderer, recipe.max_length)
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
        train=tuple(row for line in train for row in renderer.rows(line.example)),
        held_out=tuple(row for line in held_out for row in renderer.rows(line.example)),
        questions=tuple(
            _question(param, line, renderer, max_length=recipe.max_length) for line in drawn
        ),
    )


def refuse_long(param: str, lines: Sequence[DataLine], renderer: Renderer, max_length: int) -> None:
    """Raises InvalidFile naming the lines that are too long: nothing is ever cut off silently."""
    long = [
        f"line {line.number}: {tokens} tokens"
        for line in lines
        if (tokens := max(map(len, _rows(param, line, renderer)))) > max_length
    ]
    if long:
        more = len(long) - NAMED_LINES
        named = [*long[:NAMED_LINES], *([f"and {more} more"] if more > 0 else [])]
        raise refuse(param, f"longer than the {max_length} tokens allowed: {'; '.join(named)}")


def _chosen(lines: Sequence[DataLine], numbers: Sequence[int]) -> list[DataLine]:
    wanted = set(numbers)
    return [line for line in lines if line.number in wanted]


def _rows(param: str, line: DataLine, renderer: Renderer) -> tuple[Rendered, ...]:
    """Raises InvalidRequest naming the line that cannot be rendered."""
    with _naming(param, line):
        return renderer.rows(line.example)


@contextmanager
def _naming(param: str, line: DataLine) -> Iterator[None]:
    try:
        yield
    except TemplateError as error:
        where = param.replace("_", " ").capitalize()
        raise InvalidRequest(
            f"{where}: line {line.number}: {error}", param=param, code="chat_template"
        ) from error


def _question(param: str, line: DataLine, renderer: Renderer, *, max_length: int) -> Question:
    ids = _rows(param, line, renderer)[-1].ids
    with _naming(param, line):
        prompt = len(renderer.prompt(line.example.prompt))
    return Question(
        row=trace(line).whole.hex(),
        prompt=line.example.prompt,
        reference=line.example.answer,
        max_tokens=max(1, min(len(ids) - prompt + ANSWER_SLACK, max_length - prompt)),
        ids=ids,
        answer_start=prompt,
    )
