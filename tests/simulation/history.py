"""What callers and operators saw, and what the registry says of it: the checker's material.

Times are seconds of one monotonic clock, of the machine that all callers run on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path


class Outcome(StrEnum):
    """What an operator learnt of a command."""

    COMPLETE = "complete"
    """Every replica that may answer routes by it."""
    ACCEPTED = "accepted"
    """It was written down; whether it is complete was not said."""
    REFUSED = "refused"
    """It changed nothing."""
    UNKNOWN = "unknown"
    """The connection was cut, or the answer does not say: it may have been carried out."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """One inference request by an alias."""

    started: float
    ended: float
    replica: str
    alias: str
    named: tuple[str, ...]
    """Different versions that header and body name; one, where all is well."""
    text: str = ""
    finish: str | None = None
    streamed: bool = False
    done: bool = True
    """A stream ended with `[DONE]`."""
    error: str | None = None
    """Why there is no answer, as the client raised it: `status 503 …`, an exception's name."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """One promotion or rollback."""

    started: float
    ended: float
    replica: str
    alias: str
    action: str
    outcome: Outcome
    version: str | None = None
    """Asked for, or, for a rollback, the one that the answer names."""
    rollout: int | None = None
    """The rollout's id in the answer; 0 where nothing had to be done."""
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Flip:
    """One change of an alias as the registry remembers it; `id` orders them all."""

    id: int
    alias: str
    action: str
    version: str


@dataclass(kw_only=True)
class History:
    """Everything, in no particular order."""

    reads: list[Read] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    flips: list[Flip] = field(default_factory=list)

    def aliases(self) -> set[str]:
        """Every alias that anything is known of."""
        entries: Iterable[Read | Command | Flip] = (*self.reads, *self.commands, *self.flips)
        return {entry.alias for entry in entries}

    def of(self, alias: str) -> History:
        """The part that is about one alias."""
        return History(
            reads=[read for read in self.reads if read.alias == alias],
            commands=[command for command in self.commands if command.alias == alias],
            flips=[flip for flip in self.flips if flip.alias == alias],
        )

    def write(self, path: Path) -> None:
        """As JSON, for a look at a failed run."""
        path.write_text(json.dumps(asdict(self), indent=1), "utf-8")

    @classmethod
    def load(cls, path: Path) -> History:
        """What `write` wrote."""
        document = json.loads(path.read_text("utf-8"))
        return cls(
            reads=[
                Read(**{**entry, "named": tuple(entry["named"])}) for entry in document["reads"]
            ],
            commands=[
                Command(**{**entry, "outcome": Outcome(entry["outcome"])})
                for entry in document["commands"]
            ],
            flips=[Flip(**entry) for entry in document["flips"]],
        )
