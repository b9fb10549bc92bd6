"""Rows against forgetting: everyday prompts with the base's own answers, by the running service.

Source: arXiv 2605.26097. What has been answered is kept in the job's folder, line by line: an
attempt that goes on asks only for the rest, and then trains on the same rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from adapters.domain.recipes import Recipe
from adapters.errors import EngineUnavailable, Rejected
from adapters.hashing import sha256_bytes
from adapters.store.staging import room_needed
from training.base.chat_format import TemplateError
from training.data.examples import Example, Message
from training.data.preferences import Row
from training.data.questions import Question
from training.data.render import Rendered, Renderer
from training.evaluate.answers import Answer
from training.job.context import JobContext
from training.job.progress import Reporter
from training.job.replay_prompts import EDITION, replay_prompts
from training.stopping import Stopped

MAX_TOKENS = 64
"""Of an answer: its beginning shows how the base speaks, and what follows costs time."""
AT_ONCE = 32
"""Prompts that are asked between two writes."""
CUT = 2
"""Tokens at the end of an answer that was cut that are not learnt: the end, which the base did
not say, and the word before it, which it may not have finished."""
_FILE = "replay.jsonl"


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Rows the base has answered, and what is kept of where they come from."""

    rows: Sequence[Rendered] = ()

    @property
    def evidence(self) -> dict[str, Any]:
        """What the lineage of a version says of them."""
        said = json.dumps([[row.ids, row.learn] for row in self.rows])
        return {
            "rows": len(self.rows),
            "prompts": EDITION,
            "digest": sha256_bytes(said.encode()),
        }


class Joined(Sequence[Row]):
    """Rows of one sequence, and behind them those of another."""

    def __init__(self, first: Sequence[Row], second: Sequence[Row]) -> None:
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | Sequence[Row]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        at = range(len(self))[at]
        return self._first[at] if at < len(self._first) else self._second[at - len(self._first)]


def replayed(share: float, rows: int) -> int:
    """How many rows of the base's make up `share` of all, beside `rows` of the task."""
    return min(round(rows * share / (1.0 - share)), len(replay_prompts()))


def make_replay(context: JobContext, recipe: Recipe, rows: int, reporter: Reporter) -> Replay:
    """What the recipe mixes with so many rows of the task; nothing where it asks for none.

    Raises EngineUnavailable, Unavailable, Stopped, StorageFull.
    """
    wanted = replay_prompts()[: replayed(recipe.replay, rows)]
    if not wanted:
        return Replay()
    answers = _answers(context, wanted, reporter)
    renderer = context.renderer
    made = (replay_row(renderer, *each) for each in zip(wanted, answers, strict=True))
    return Replay(rows=[row for row in made if row and len(row) <= recipe.max_length])


def _answers(context: JobContext, prompts: Sequence[str], reporter: Reporter) -> list[Answer]:
    """The base's, in order: those that are kept, then those that are asked for now."""
    path = context.workdir / _FILE
    context.workdir.mkdir(parents=True, exist_ok=True)
    known = list(_kept(path))[: len(prompts)]
    if len(known) < len(prompts):
        reporter.say(f"Asking the base for {len(prompts)} answers to replay against forgetting")
    path.write_text("".join(map(_line, known)), "utf-8")  # without a torn line
    while len(known) < len(prompts):
        if context.stopping():
            raise Stopped
        some = _asked(context, prompts[len(known) : len(known) + AT_ONCE])
        known += some
        with room_needed(), path.open("a", encoding="utf-8") as file:
            file.writelines(map(_line, some))
    return known


def _asked(context: JobContext, prompts: Sequence[str]) -> list[Answer]:
    questions = [
        Question(
            row=sha256_bytes(prompt.encode())[:32],
            prompt=(Message(role="user", content=prompt),),
            reference="",
            max_tokens=MAX_TOKENS,
            ids=(),
            answer_start=0,
        )
        for prompt in prompts
    ]
    try:
        return context.answers.ask(context.base.name, questions)
    except Rejected as error:
        raise EngineUnavailable(error.message) from error


def _line(answer: Answer) -> str:
    return json.dumps([answer.text, answer.cut]) + "\n"


def _kept(path: Path) -> Iterator[Answer]:
    """Up to the first line that a crash has torn."""
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    for line in lines:
        try:
            text, cut = json.loads(line)
        except ValueError:
            return
        yield Answer(text=text, cut=cut)


def replay_row(renderer: Renderer, prompt: str, answer: Answer) -> Rendered | None:
    """The base's answer as a row; None where it has no words, or cannot be rendered."""
    said = Message(role="assistant", content=answer.text)
    asked = Message(role="user", content=prompt)
    if not answer.text.strip():
        return None
    try:
        row = renderer.rows(Example(messages=(asked, said)))[-1]
    except TemplateError:
        return None
    if answer.cut:
        row = Rendered(ids=row.ids[:-CUT], learn=row.learn[:-CUT])
    return row if any(row.learn) else None
