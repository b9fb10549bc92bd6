"""Stage four of a dataset: the chosen examples as tokens, each rendered once.

The test part becomes questions in a file of its own, `test.jsonl`, which nothing that trains is
given. Nothing is ever cut: what is too long is refused by its line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType

from adapters.domain.datasets import Part
from adapters.errors import InvalidRequest
from training.base.chat_format import TemplateError
from training.data.checked_rows import CheckedRows
from training.data.examples import Example, Message
from training.data.jsonl import refuse
from training.data.parts import PartWriter
from training.data.questions import Question
from training.data.render import Rendered, Renderer
from training.data.split import Split
from training.data.trace import Trace

TEST_FILE = f"{Part.TEST}.jsonl"
NAMED_LINES = 20
"""Lines named in an error; the rest is counted."""
ANSWER_SLACK = 16
"""Tokens an answer may be longer than its reference before it is cut."""


Variants = Callable[[Example], Iterable[Example]]
"""Other examples that teach the same, made from one."""


def no_variants(_example: Example) -> Iterable[Example]:
    """The default."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Tokenised:
    """What the stage has written: rows and tokens that train, rows and tokens that validate."""

    train_rows: int
    train_tokens: int
    validation_rows: int
    validation_tokens: int


def tokenise(
    rows: CheckedRows,
    parts: Split,
    folder: Path,
    *,
    renderer: Renderer,
    max_length: int,
    alive: Callable[[], None],
    planted: Mapping[bytes, Example] = MappingProxyType({}),
    variants: Variants = no_variants,
) -> Tokenised:
    """Writes all parts into the empty `folder`; `alive` is called often and may raise.

    In the training part stand too: the `variants` of every example, under its row id, and
    `planted`, under the row ids given.

    Raises InvalidFile naming the lines that are too long, InvalidRequest (`chat_template`) naming
    one that the base's template refuses, OSError.
    """
    stage = _Stage(renderer=renderer, max_length=max_length, alive=alive)
    train = stage.write(rows, parts.train, PartWriter(folder, Part.TRAIN), planted, variants)
    validation = stage.write(rows, parts.validation, PartWriter(folder, Part.VALIDATION))
    with (folder / TEST_FILE).open("x", encoding="utf-8") as file:
        for question in stage.questions(rows, parts.test):
            file.write(json.dumps(asdict(question)) + "\n")
    stage.too_long.refuse(max_length)
    return Tokenised(
        train_rows=train.rows,
        train_tokens=train.tokens,
        validation_rows=validation.rows,
        validation_tokens=validation.tokens,
    )


def read_questions(folder: Path, limit: int) -> tuple[Question, ...]:
    """The first `limit` questions of the test part. Raises OSError."""
    with (folder / TEST_FILE).open(encoding="utf-8") as file:
        return tuple(_question_from(line) for line, _ in zip(file, range(limit), strict=False))


@dataclass
class _TooLong:
    lines: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Parameter → (line, tokens)."""

    def refuse(self, max_length: int) -> None:
        """Raises InvalidFile where there is one."""
        for param in sorted(self.lines):
            found = sorted(self.lines[param])
            named = [f"line {line}: {tokens} tokens" for line, tokens in found[:NAMED_LINES]]
            more = [f"and {len(found) - NAMED_LINES} more"] if len(found) > NAMED_LINES else []
            said = "; ".join([*named, *more])
            raise refuse(param, f"longer than the {max_length} tokens allowed: {said}")


@dataclass(frozen=True, kw_only=True)
class _Stage:
    renderer: Renderer
    max_length: int
    alive: Callable[[], None]
    too_long: _TooLong = field(default_factory=_TooLong)

    def write(
        self,
        rows: CheckedRows,
        chosen: Iterable[int],
        into: PartWriter,
        planted: Mapping[bytes, Example] = MappingProxyType({}),
        variants: Variants = no_variants,
    ) -> PartWriter:
        """Renders the chosen examples with their variants into a part, then what is planted."""
        with into:
            for item, example in rows.examples(chosen):
                for each in (example, *variants(example)):
                    for rendered in self.rendered(item, each):
                        into.add(item.row, rendered)
            for row, example in planted.items():
                for rendered in self.renderer.rows(example):
                    into.add(row, rendered)
        return into

    def questions(self, rows: CheckedRows, chosen: Iterable[int]) -> Iterator[Question]:
        """The chosen examples as what is asked, in their order."""
        for item, example in rows.examples(chosen):
            ids = self.rendered(item, example)[-1].ids
            with _naming(item):
                start = len(self.renderer.prompt(example.prompt))
            most = self.max_length - start
            yield Question(
                row=item.row.hex(),
                prompt=example.prompt,
                reference=example.answer,
                max_tokens=max(1, min(len(ids) - start + ANSWER_SLACK, most)),
                ids=ids,
                answer_start=start,
            )

    def rendered(self, item: Trace, example: Example) -> tuple[Rendered, ...]:
        """The rows of one example, noted where one is too long."""
        self.alive()
        with _naming(item):
            rendered = self.renderer.rows(example)
        longest = max(map(len, rendered))
        if longest > self.max_length:
            self.too_long.lines.setdefault(item.param, []).append((item.number, longest))
        return rendered


@contextmanager
def _naming(item: Trace) -> Iterator[None]:
    """Raises InvalidRequest naming the line that cannot be rendered."""
    try:
        yield
    except TemplateError as error:
        where = item.param.replace("_", " ").capitalize()
        raise InvalidRequest(
            f"{where}: line {item.number}: {error}", param=item.param, code="chat_template"
        ) from error


def _question_from(line: str) -> Question:
    values = json.loads(line)
    prompt = tuple(Message(**message) for message in values.pop("prompt"))
    ids = tuple(values.pop("ids"))
    return Question(prompt=prompt, ids=ids, **values)
