"""Checks files as a job would, without training: every problem, every stage, what to expect.

`check_data` is the one function of it; commands and servers say what it found.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from adapters.domain.data_policy import TooLong
from adapters.domain.datasets import Part
from adapters.domain.recipes import Recipe
from adapters.errors import InvalidFile, InvalidRequest
from training.base.chat_format import TemplateError
from training.data.balance import balanced
from training.data.examples import DataKind, Example
from training.data.jsonl import InvalidLines, Problem
from training.data.learning_curve import is_cheap
from training.data.near_duplicates import thin_out
from training.data.read import Rules, read_rows
from training.data.render import Renderer
from training.data.split import split
from training.data.stored_dataset import FACTS_FILE, Built, write_facts
from training.data.tokenise import tokenise, told_too_long
from training.job.dataset import beside_of
from training.job.pace import Pace
from training.job.replay import MAX_TOKENS, replayed

Known = Callable[[set[bytes]], Mapping[bytes, Part]]
"""The parts that questions have had in the adapter's life."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a job of these files would be made with."""

    adapter: str
    recipe: Recipe
    renderer: Renderer
    base: str
    """The base's fingerprint."""
    known: Known
    beside: Mapping[str, Any] = field(default_factory=dict)
    """What is taught beside the examples, as `training.job.dataset.taught_beside` has it."""
    pace: Pace | None = None
    """None where nothing is known of it."""
    price_per_hour: float | None = None


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What training on the files would take."""

    tokens: int
    """Read in all epochs."""
    steps: int
    seconds: float | None
    cost: float | None
    guessed: bool = False
    """Whether `seconds` are, by the machine: see `training.job.pace`."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found. Problems of the lines themselves are told together, whichever stage finds
    them; what is wrong with the files as a whole (too few examples that differ) only without those.
    """

    problems: tuple[Problem, ...] = ()
    """The first thousand of each file."""
    problem_count: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The dataset's own, as `dataset.json` has them; empty where the files have problems."""
    expected: Expected | None = None

    @classmethod
    def refused(cls, param: str | None, what: str) -> Report:
        """Of files that are refused as a whole."""
        problem = Problem(param=param or "training_file", line=None, what=what)
        return cls(problems=(problem,), problem_count=1)

    def also(self, problems: Sequence[Problem]) -> Report:
        """With these before its own; there is nothing to expect of what cannot be trained."""
        if not problems:
            return self
        return replace(
            self,
            problems=(*problems, *self.problems),
            problem_count=len(problems) + self.problem_count,
            expected=None,
        )

    @property
    def usable(self) -> bool:
        return not self.problem_count

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "usable": self.usable,
            "problems": [asdict(problem) for problem in self.problems],
            "problem_count": self.problem_count,
            "expected": asdict(self.expected) if self.expected else None,
            "dataset": dict(self.facts),
        }

    def as_lines(self) -> list[str]:
        """For people."""
        if not self.usable:
            shown = [f"{each.param}: {each}" for each in self.problems]
            more = self.problem_count - len(shown)
            return [*shown, *([f"and {more} more"] if more else [])]
        said = [
            f"{'note' if level == 'info' else 'WARNING'}: {note}"
            for level, note in self.facts["notes"]
        ]
        return [*said, *([_expected(self.expected)] if self.expected else [])]


def check_data(
    files: Mapping[str, Callable[[], BinaryIO]], rules: Rules, offer: Offer, *, workdir: Path
) -> Report:
    """`files` open what a job's parameters would name; `workdir` is emptied, and removed at last.

    Raises InvalidRequest where the unit's policy or the base cannot be used, StorageFull, OSError.
    """
    shutil.rmtree(workdir, ignore_errors=True)
    try:
        return _checked(files, rules, offer, workdir)
    except InvalidLines as error:
        return Report(problems=error.problems, problem_count=sum(error.counts.values()))
    except InvalidFile as error:
        return Report.refused(error.param, error.message)
    except InvalidRequest as error:
        if error.param is None:
            raise
        return Report.refused(error.param, error.message)
    finally:
        shutil.rmtree(workdir, ignore_errors=True)


def _checked(
    files: Mapping[str, Callable[[], BinaryIO]], rules: Rules, offer: Offer, workdir: Path
) -> Report:
    try:
        return _staged(files, rules, offer, workdir)
    except InvalidRequest as error:
        if not isinstance(error, InvalidLines) and error.reason != "chat_template":
            raise
        # a stage ends a job by what it refuses; here a later one is asked about the lines as well
        look = partial(_cannot_learn, offer, rules)
        read_rows(list(files.items()), rules, workdir / "again", rules.made_from, look=look)
        raise


def _cannot_learn(offer: Offer, rules: Rules, param: str, example: Example) -> Iterator[str]:
    """Of each line of the training file its variants are asked about as well: which lines train is
    drawn from all of them, and so not known while some cannot be used.
    """
    varies = param == "training_file" and rules.kind is DataKind.CHAT
    try:
        longest = _longest(offer, example.sides)
        varied = _longest(offer, beside_of(offer.beside).variants(example) if varies else ())
    except TemplateError as error:
        yield str(error)
        return
    most = offer.recipe.max_length
    if rules.policy.too_long is not TooLong.REFUSE or max(longest, varied) <= most:
        return
    own, other = told_too_long(longest, most), told_too_long(varied, most)
    yield own if longest > most else f"taught about somebody else, it has {other}"


def _longest(offer: Offer, examples: Iterable[Example]) -> int:
    """Tokens of the longest row. Raises TemplateError."""
    return max((len(row) for each in examples for row in offer.renderer.rows(each)), default=0)


def _staged(
    files: Mapping[str, Callable[[], BinaryIO]], rules: Rules, offer: Offer, workdir: Path
) -> Report:
    rows = read_rows(list(files.items()), rules, workdir / "rows", rules.made_from)
    fewest, policy = rules.limits.min_examples, rules.policy
    asked = {each for item in rows.traces for each in item.asked}
    parts = split(rows.traces, adapter=offer.adapter, known=offer.known(asked), min_examples=fewest)
    thinned = thin_out(rows, parts, likeness=policy.near_duplicates, min_examples=fewest)
    shown, spread = balanced(rows, thinned.parts, policy.balance)
    made_from = {**rules.made_from, "adapter": offer.adapter, "base": offer.base, **offer.beside}
    folder = workdir / "dataset"
    folder.mkdir()
    tokenised = tokenise(
        rows,
        shown,
        folder,
        renderer=offer.renderer,
        max_length=offer.recipe.max_length,
        alive=lambda: None,
        beside=beside_of(made_from),
        too_long=policy.too_long,
        weights=spread.weights,
    )
    built = Built(
        made_from=made_from,
        rows=rows,
        thinned=thinned,
        parts=shown,
        spread=spread,
        tokenised=tokenised,
    )
    write_facts(folder, built)
    facts = json.loads((folder / FACTS_FILE).read_text("utf-8"))
    runs = 3 if policy.learning_curve and is_cheap(thinned.parts.counts.train) else 1
    expected = _expect(offer, rows=tokenised.train_rows, tokens=tokenised.train_tokens, runs=runs)
    return Report(facts=facts, expected=expected)


def _expect(offer: Offer, *, rows: int, tokens: int, runs: int) -> Expected:
    """At most: early stopping may end a run sooner. `runs` are those of the chosen trial."""
    recipe = offer.recipe
    trained = len(recipe.trials()) + runs - 1
    mixed_in = replayed(recipe.replay, rows)
    steps = math.ceil((rows + mixed_in) / recipe.batch_size * recipe.n_epochs) * trained
    read = round((tokens + mixed_in * MAX_TOKENS) * recipe.n_epochs) * trained
    pace, price = offer.pace, offer.price_per_hour
    seconds = read / pace.tokens_per_second if pace else None
    cost = None if seconds is None or price is None else seconds / 3600 * price
    guessed = pace is not None and pace.guessed
    return Expected(tokens=read, steps=steps, seconds=seconds, cost=cost, guessed=guessed)


def _expected(expected: Expected) -> str:
    said = f"expect: at most {expected.steps} steps over {expected.tokens:,} tokens"
    if expected.seconds is None:
        return f"{said}; how long that takes is known once a job has trained this base here"
    time = f"{said}, about {max(1, round(expected.seconds / 60))} min"
    time += " (a guess by this machine's speed: no version of this base tells)" * expected.guessed
    return time if expected.cost is None else f"{time}, cost {expected.cost:.2f}"
