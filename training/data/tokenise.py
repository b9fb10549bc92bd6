"""The last stage of a dataset: the chosen examples as tokens, each rendered once.

The test part becomes questions in a file of its own, `test.jsonl`, which nothing that trains is
given. Nothing is ever cut: what is too long is refused by its line, or left out where the unit's
policy says so.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from adapters.domain.data_policy import TooLong
from adapters.domain.datasets import Part
from adapters.errors import InvalidRequest
from training.base.chat_format import TemplateError
from training.data.checked_rows import CheckedRows
from training.data.example_json import message_from
from training.data.examples import DataKind, Example
from training.data.jsonl import InvalidLines, Problems, joined
from training.data.parts import PartWriter, liked_of, rejected_of
from training.data.questions import Question
from training.data.render import Rendered, Renderer
from training.data.split import Split
from training.data.trace import Trace

TEST_FILE = f"{Part.TEST}.jsonl"
ANSWER_SLACK = 16
"""Tokens an answer may be longer than its reference before it is cut."""


Variants = Callable[[Example], Iterable[Example]]
"""Other examples that teach the same, made from one."""


def no_variants(_example: Example) -> Iterable[Example]:
    """The default."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What the training part teaches beside its examples."""

    planted: Mapping[bytes, Example] = field(default_factory=dict)
    """Row id → an example that no file has."""
    variants: Variants = no_variants
    """Of every example; they stand under its row id."""


NOTHING_BESIDE = Beside()


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """How long the rows of a part are, in tokens."""

    rows: int
    tokens: int
    learnt: int
    """Those that carry loss."""
    median: int
    p95: int
    longest: int


@dataclass(frozen=True, kw_only=True)
class Tokenised:
    """What the stage has written: rows and tokens that train, rows and tokens that validate."""

    train_rows: int
    train_tokens: int
    validation_rows: int
    validation_tokens: int
    max_length: int
    cut: int
    """Rows that were shortened: always 0, and said because other trainers cut without a word."""
    too_long: int
    """Examples that were left out because they are longer than `max_length`."""
    lengths: dict[str, Lengths]
    """By part."""

    @property
    def notes(self) -> list[tuple[str, str]]:
        """(level, message) of what the data's owner should know."""
        longest = max(part.longest for part in self.lengths.values())
        tokens = sum(part.tokens for part in self.lengths.values())
        said = f"{tokens:,} tokens; the longest example has {longest} of {self.max_length} allowed"
        notes = [("info", f"{said}, none was cut")]
        if self.too_long:
            dropped = f"Left out {self.too_long} examples longer than {self.max_length} tokens"
            notes.append(("warn", dropped))
        return notes


def tokenise(
    rows: CheckedRows,
    parts: Split,
    folder: Path,
    *,
    renderer: Renderer,
    max_length: int,
    alive: Callable[[], None],
    beside: Beside = NOTHING_BESIDE,
    too_long: TooLong = TooLong.REFUSE,
    weights: Mapping[int, float] = MappingProxyType({}),
) -> Tokenised:
    """Writes all parts into the empty `folder`; `alive` is called often and may raise.

    `weights` says of training examples how much more than others their loss counts.

    Raises InvalidFile naming the lines that are too long, InvalidRequest (`chat_template`) naming
    one that the base's template refuses, OSError.
    """
    stage = _Stage(renderer=renderer, max_length=max_length, alive=alive, weights=weights)
    train = stage.write(rows, parts.train, folder, Part.TRAIN, beside)
    validation = stage.write(rows, parts.validation, folder, Part.VALIDATION)
    with (folder / TEST_FILE).open("x", encoding="utf-8") as file:
        for question in stage.questions(rows, parts.test):
            file.write(json.dumps(asdict(question)) + "\n")
    if too_long is TooLong.REFUSE:
        stage.too_long.refuse(max_length)
    return Tokenised(
        train_rows=train.rows,
        train_tokens=train.tokens,
        validation_rows=validation.rows,
        validation_tokens=validation.tokens,
        max_length=max_length,
        cut=0,
        too_long=stage.too_long.count,
        lengths={part: lengths.told() for part, lengths in stage.lengths.items()},
    )


def told_too_long(tokens: int, max_length: int) -> str:
    """Of one example."""
    return f"{tokens} tokens, longer than the {max_length} tokens allowed"


def read_questions(folder: Path, limit: int) -> tuple[Question, ...]:
    """The first `limit` questions of the test part. Raises OSError."""
    with (folder / TEST_FILE).open(encoding="utf-8") as file:
        return tuple(_question_from(line) for line, _ in zip(file, range(limit), strict=False))


@dataclass
class _TooLong:
    lines: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Parameter → (line, tokens)."""

    @property
    def count(self) -> int:
        return sum(map(len, self.lines.values()))

    def refuse(self, max_length: int) -> None:
        """Raises InvalidFile where there is one."""
        failed = []
        for param in sorted(self.lines):
            problems = Problems(param)
            for line, tokens in sorted(self.lines[param]):
                problems.add(line, told_too_long(tokens, max_length))
            failed.append(InvalidLines(problems.listed, {param: problems.count}))
        if failed:
            raise joined(failed)


@dataclass
class _Lengths:
    each: array[int] = field(default_factory=lambda: array("I"))
    learnt: int = 0

    def add(self, rendered: Rendered) -> None:
        self.each.append(len(rendered))
        self.learnt += sum(rendered.learn)

    def told(self) -> Lengths:
        each = np.asarray(self.each) if self.each else np.zeros(1, np.uint32)
        median, p95 = np.percentile(each, [50, 95], method="higher").tolist()
        return Lengths(
            rows=len(self.each),
            tokens=int(each.sum()),
            learnt=self.learnt,
            median=int(median),
            p95=int(p95),
            longest=int(each.max()),
        )


@dataclass(frozen=True, kw_only=True)
class _Stage:
    renderer: Renderer
    max_length: int
    alive: Callable[[], None]
    weights: Mapping[int, float]
    """Of examples of the training part."""
    too_long: _TooLong = field(default_factory=_TooLong)
    lengths: dict[Part, _Lengths] = field(
        default_factory=lambda: {part: _Lengths() for part in Part}
    )

    def write(
        self,
        rows: CheckedRows,
        chosen: Sequence[int],
        folder: Path,
        part: Part,
        beside: Beside = NOTHING_BESIDE,
    ) -> PartWriter:
        """Renders the chosen examples into a part; of pairs, both answers side by side. Chats stand
        there with their variants, and what is planted behind them.
        """
        if rows.kind is DataKind.PAIRS:
            return self._write_pairs(rows, chosen, folder, part)
        if rows.kind is DataKind.THUMBS:
            beside = NOTHING_BESIDE
        weighted = part is Part.TRAIN and bool(self.weights)
        with (
            PartWriter(folder, part, weighted=weighted) as into,
            self._thumbs(rows, folder, part) as thumb,
        ):
            for at, (item, example) in zip(chosen, rows.examples(chosen), strict=True):
                sides = [
                    side for each in (example, *beside.variants(example)) for side in each.sides
                ]
                for rendered in self._fitting(item, sides, part):
                    into.add(item.row, replace(rendered, weight=self.weights.get(at, 1.0)))
                    thumb(bool(example.liked))
            for row, example in beside.planted.items():
                for rendered in self.renderer.rows(example):
                    into.add(row, rendered)
        return into

    def _write_pairs(
        self, rows: CheckedRows, chosen: Iterable[int], folder: Path, part: Part
    ) -> PartWriter:
        with PartWriter(folder, part) as into, PartWriter(folder, rejected_of(part)) as other:
            for item, example in rows.examples(chosen):
                rendered = self._fitting(item, example.sides, part)
                if rendered:
                    into.add(item.row, rendered[0])
                    other.add(item.row, rendered[1])
        return into

    def questions(self, rows: CheckedRows, chosen: Iterable[int]) -> Iterator[Question]:
        """The chosen examples as what is asked, in their order."""
        for item, example in rows.examples(chosen):
            rendered = self._fitting(item, example.sides[:1], Part.TEST)
            if not rendered:
                continue
            ids = rendered[-1].ids
            with _naming(item):
                start = len(self.renderer.prompt(example.prompt, example.tools))
            most = self.max_length - start
            yield Question(
                row=item.row.hex(),
                prompt=example.prompt,
                reference=example.answer,
                max_tokens=max(1, min(len(ids) - start + ANSWER_SLACK, most)),
                ids=ids,
                answer_start=start,
                tools=example.tools,
            )

    def _fitting(self, item: Trace, examples: Sequence[Example], part: Part) -> list[Rendered]:
        """The rows of one record; none, and noted, where one of them is too long."""
        self.alive()
        with _naming(item):
            rendered = [row for example in examples for row in self.renderer.rows(example)]
        longest = max(map(len, rendered))
        if longest > self.max_length:
            self.too_long.lines.setdefault(item.param, []).append((item.number, longest))
            return []
        for row in rendered:
            self.lengths[part].add(row)
        return rendered

    @contextmanager
    def _thumbs(
        self, rows: CheckedRows, folder: Path, part: Part
    ) -> Iterator[Callable[[bool], None]]:
        """Takes what a thumb said of each row, where it is data of thumbs."""
        if rows.kind is not DataKind.THUMBS:
            yield lambda _liked: None
            return
        with liked_of(folder, part).open("xb") as file:

            def add(liked: bool) -> None:
                file.write(bytes([liked]))

            yield add


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
    prompt = tuple(message_from(message) for message in values.pop("prompt"))
    ids, tools = tuple(values.pop("ids")), tuple(values.pop("tools", ()))
    return Question(prompt=prompt, ids=ids, tools=tools, **values)
