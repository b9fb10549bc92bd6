"""The first stages of a dataset: files → examples that may be learnt, on disk.

Each example is read, checked, left out where its person asked for that, and screened for personal
data and secrets before anything of it is written. All files are read to their ends, so that all
their mistakes are told at once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from adapters.domain.data_policy import DataPolicy, PersonalData
from adapters.domain.units import UnitLimits
from adapters.hashing import sha256_bytes, sha256_file
from adapters.store.staging import room_needed
from training.data.checked_rows import CheckedRows, write_rows
from training.data.erased import Erased
from training.data.examples import DataKind, Example
from training.data.jsonl import Bounds, DataLine, InvalidLines, Problems, iterate_examples, joined
from training.data.redact import Redaction, Screen, screen_for, second_look_for
from training.data.redacted import Taken

Part = tuple[str, Callable[[], BinaryIO]]
"""The parameter that names a file, and what opens it."""
Look = Callable[[str, Example], Iterable[str]]
"""What else keeps an example of the file that a parameter names from being learnt, in words."""


def no_look(_param: str, _example: Example) -> Iterable[str]:
    """The default: that an example can be read is enough here."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a unit asks of its files, and what is to become of what they hold."""

    limits: UnitLimits
    policy: DataPolicy
    folder: Path
    """Where the unit's directories lie."""
    key: bytes = field(repr=False)
    """The unit's own: pseudonyms and erased terms are made with it."""
    erased: Erased
    kind: DataKind = DataKind.CHAT

    @property
    def made_from(self) -> dict[str, Any]:
        """Changes with everything that changes what is made of a file. Raises OSError."""
        bounds = [self.limits.min_examples, self.limits.max_examples]
        return {
            "bounds": bounds,
            "kind": str(self.kind),
            "policy": self._stamp(),
            "erased": self.erased.stamp,
        }

    def _stamp(self) -> str:
        said = self.policy.model_dump(mode="json")
        said["entities"] = sorted(said["entities"])
        files = [self.folder / name for name in self.policy.directories]
        listed = [str(sha256_file(path)) for path in files if path.is_file()]
        text = json.dumps([said, listed, sha256_bytes(self.key)], sort_keys=True)
        return str(sha256_bytes(text.encode()))[:16]

    def screen(self) -> Screen:
        """Raises InvalidRequest where a directory or the model of names cannot be used."""
        return screen_for(self.policy, folder=self.folder, key=self.key)


def read_rows(
    parts: Sequence[Part],
    rules: Rules,
    folder: Path,
    made_from: Mapping[str, Any],
    *,
    look: Look = no_look,
) -> CheckedRows:
    """Writes the examples of all files into `folder`. What `look` says of one is a mistake too.

    Raises InvalidFile naming every mistake of every file by its line, InvalidRequest where the
    unit's policy cannot be followed, StorageFull, OSError.
    """
    reading = _Reading(rules, parts, look)
    with room_needed():
        return write_rows(
            folder,
            made_from,
            reading.lines(),
            kind=rules.kind,
            found=reading.found,
            taken=reading.taken,
        )


class _Reading:
    """One walk over all files."""

    def __init__(self, rules: Rules, parts: Sequence[Part], look: Look) -> None:
        self._rules, self._parts, self._look = rules, parts, look
        screen = rules.screen()
        again = second_look_for(screen, rules.folder)
        self._redactions = {
            param: Redaction(screen=screen, problems=Problems(param), second_look=again)
            for param, _ in parts
        }
        self._erased = 0

    def lines(self) -> Iterator[tuple[DataLine, bool]]:
        """Each example that may be learnt, and whether the validation file holds it.

        Raises InvalidLines at the end.
        """
        failed: list[InvalidLines] = []
        for param, opened in self._parts:
            with _noting(failed):
                for line in self._of(param, opened):
                    if not failed:
                        yield line, param == "validation_file"
        if failed:
            raise joined(failed)

    def found(self) -> dict[str, Any]:
        """Numbers of what was found, and by which policy."""
        policy = self._rules.policy
        allowed = policy.personal_data is PersonalData.ALLOW
        approval = policy.approval if allowed else None
        left = sum(each.left.total() for each in self._redactions.values())
        return {
            "erased": self._erased,
            "approved" if allowed else "left": left,
            "policy": {
                "personal_data": str(policy.personal_data),
                "secrets": str(policy.secrets),
                "entities": sorted(map(str, policy.entities)),
                "directories": len(policy.directories),
                "names_model": policy.names_model or None,
                "learning_curve": policy.learning_curve,
                "approval": approval.model_dump() if approval else None,
            },
            "parts": {param: each.found() for param, each in self._redactions.items()},
        }

    def taken(self) -> set[Taken]:
        """Digests of what was taken out of all files."""
        return set().union(*(each.taken for each in self._redactions.values()))

    def _of(self, param: str, opened: Callable[[], BinaryIO]) -> Iterator[DataLine]:
        redaction, limits = self._redactions[param], self._rules.limits
        fewest = limits.min_examples if param == "training_file" else 1
        bounds = Bounds(min_examples=fewest, max_examples=limits.max_examples)
        failed: list[InvalidLines] = []
        seen = Problems(param)
        with _noting(failed), opened() as content:
            for line in iterate_examples(
                content, param=param, bounds=bounds, kind=self._rules.kind
            ):
                if self._rules.erased.hold_any_of(line.example):
                    self._erased += 1
                    continue
                clean = redaction.screened(line.number, line.example)
                seen.add(line.number, *self._look(param, clean))
                yield DataLine(number=line.number, example=clean)
        for problems in (redaction.problems, seen):
            with _noting(failed):
                problems.stop()
        if failed:
            raise joined(failed)


@contextmanager
def _noting(failed: list[InvalidLines]) -> Iterator[None]:
    """Mistakes are told together with those that are found next."""
    try:
        yield
    except InvalidLines as error:
        failed.append(error)


def notes_of(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(level, message) of what reading has found, for the data's owner."""
    notes: list[tuple[str, str]] = []
    if found.get("erased"):
        notes.append(("info", f"Left out {found['erased']} examples of erased persons"))
    policy = found.get("policy", {})
    if policy.get("approval"):
        by = policy["approval"]["by"]
        notes.append(("warn", f"Personal data is learnt as it is, as approved by {by}"))
    parts = found.get("parts", {})
    kinds = _by_kind(each["entities"] for each in parts.values())
    secrets = kinds.pop("SECRET", 0)
    if kinds:
        notes.append(("info", f"Replaced personal data by pseudonyms: {_listed(kinds)}"))
    if secrets:
        notes.append(("warn", f"Took out {secrets} secrets; whoever owns them should change them"))
    if found.get("left"):
        notes.append(("warn", _told_left(parts)))
    return notes


def _told_left(parts: Mapping[str, Mapping[str, Any]]) -> str:
    lines = "; ".join(
        f"{param.replace('_', ' ')}, first on lines {', '.join(map(str, each['left_lines']))}"
        for param, each in parts.items()
        if each["left_lines"]
    )
    return (
        f"Personal data seems to be left: {_listed(_by_kind(e['left'] for e in parts.values()))} "
        f"({lines}). The gate `data` compares it with `gates.data.max_personal`: list these people "
        "in a directory, name a `names_model`, or take it out"
    )


def _by_kind(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    total = Counter[str]()
    for each in counts:
        total.update(each)
    return total


def _listed(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {label}" for label, count in sorted(kinds.items()))
