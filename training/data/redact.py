"""The stage that keeps personal data and secrets out of what is learnt.

Each text of an example passes, prompts and answers alike, and the values of its metadata, before
anything of it is written. What is kept of it are numbers (how many of each kind, in how many
examples, how many a second look has found left) and keyed digests of what was taken out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from adapters.domain.data_policy import DataPolicy, Entity, PersonalData, Secrets
from training.data.directory import DirectoryFinder, read_directory
from training.data.examples import Example
from training.data.jsonl import Problems
from training.data.name_finder import load_names
from training.data.pattern_finder import PatternFinder
from training.data.pseudonyms import LABELS, MARK, PSEUDONYM, WORD, Pseudonyms, folded, words_of
from training.data.redacted import Taken, taken
from training.data.second_look import SecondLook
from training.data.secret_finder import SecretFinder
from training.data.spans import Finder, Span, replaced, without_overlaps

MIN_PART = 3
"""Characters of a first or a last name that is recognised alone."""
LINES = 10
"""Lines that are named where personal data is left."""
_PSEUDONYM_OR_WORD = re.compile(f"{PSEUDONYM.pattern}|{WORD.pattern}")


@dataclass(frozen=True, kw_only=True)
class Screen:
    """A unit's policy, ready to be used."""

    policy: DataPolicy
    finders: Sequence[Finder]
    pseudonyms: Pseudonyms
    key: bytes = field(repr=False)

    def spans(self, text: str) -> list[Span]:
        """What the policy knows of a text, in order."""
        return without_overlaps(span for finder in self.finders for span in finder.find(text))


def screen_for(policy: DataPolicy, *, folder: Path, key: bytes) -> Screen:
    """`folder` is where the unit's directories lie, `key` the unit's own.

    Raises InvalidRequest where a directory cannot be read or the model of names is not there.
    """
    finders: list[Finder] = [SecretFinder()]
    if policy.personal_data is not PersonalData.ALLOW:
        finders += _of_personal_data(policy, folder)
    return Screen(policy=policy, finders=finders, pseudonyms=Pseudonyms(key), key=key)


def second_look_for(screen: Screen, folder: Path) -> SecondLook:
    """Raises as `screen_for` does. What a unit allows was not looked for yet: it is now."""
    allowed = screen.policy.personal_data is PersonalData.ALLOW
    if allowed:
        screen = replace(screen, finders=_of_personal_data(screen.policy, folder))
    return SecondLook(screen.spans, screen.policy.entities, everywhere=allowed)


def _of_personal_data(policy: DataPolicy, folder: Path) -> list[Finder]:
    listed = (entry for name in policy.directories for entry in read_directory(folder / name))
    finders: list[Finder] = [
        DirectoryFinder(each for each in listed if each.entity in policy.entities),
        PatternFinder(policy.entities, regions=policy.phone_regions),
    ]
    if policy.names_model:
        finders.append(load_names(policy.names_model, policy.entities))
    return finders


@dataclass
class Redaction:
    """One file's way through the screen; counts what it finds, and collects what is refused."""

    screen: Screen
    problems: Problems
    second_look: SecondLook
    entities: Counter[str] = field(default_factory=Counter)
    examples: int = 0
    """Those in which something was found."""
    left: Counter[str] = field(default_factory=Counter)
    """What the second look has found."""
    left_lines: list[int] = field(default_factory=list)
    """The first lines on which it has."""
    taken: set[Taken] = field(default_factory=set)
    _here: Counter[str] = field(default_factory=Counter)
    _people: dict[str, str] = field(default_factory=dict)
    """Words that are half the name of a person of this example → whose."""

    def screened(self, line: int, example: Example) -> Example:
        """The example as it may be learnt; what is refused is noted under its line."""
        self._here.clear()
        self._people.clear()
        clean = example.with_texts(self._text)
        if self._people:
            clean = clean.with_texts(self._without_halves)
        if self._here:
            self.examples += 1
            self.entities.update(self._here)
            self._refuse(line)
        self._look_again(line, clean)
        return clean

    def found(self) -> dict[str, Any]:
        """Numbers for the report."""
        return {
            "examples": self.examples,
            "entities": dict(sorted(self.entities.items())),
            "left": dict(sorted(self.left.items())),
            "left_lines": self.left_lines,
        }

    def _look_again(self, line: int, clean: Example) -> None:
        left = self.second_look.left_in(clean)
        if left:
            self.left.update(left)
            if len(self.left_lines) < LINES:
                self.left_lines.append(line)

    def _text(self, text: str) -> str:
        spans = self.screen.spans(text)
        if not spans:
            return text
        self._here.update(_label(span.entity) for span in spans)
        for span in spans:
            self._note(span, text[span.start : span.end])
        return replaced(text, ((span, self._instead(span)) for span in spans))

    def _note(self, span: Span, said: str) -> None:
        kept = taken(said, self.screen.key)
        if kept is not None:
            self.taken.add(kept)
        words = words_of(said)
        if span.entity is Entity.PERSON and len(words) > 1:
            halves = (word for word in (words[0], words[-1]) if len(word) >= MIN_PART)
            self._people.update(dict.fromkeys(halves, span.subject))

    def _without_halves(self, text: str) -> str:
        """Whoever is named in full in an example is not named by half in it."""
        return _PSEUDONYM_OR_WORD.sub(self._of_half, text)

    def _of_half(self, match: re.Match[str]) -> str:
        word = match[0]
        subject = self._people.get(folded(word)) if word[0].isupper() else None
        if subject is None:
            return word
        self._here.update([_label(Entity.PERSON)])
        return self.screen.pseudonyms.of(Entity.PERSON, subject)

    def _instead(self, span: Span) -> str:
        if span.entity is None:
            return MARK
        return self.screen.pseudonyms.of(span.entity, span.subject)

    def _refuse(self, line: int) -> None:
        policy = self.screen.policy
        for label, count in sorted(self._here.items()):
            secret = label == _label(None)
            if secret and policy.secrets is Secrets.REFUSE:
                self.problems.add(line, f"holds {count} secrets: change them, and take them out")
            elif not secret and policy.personal_data is PersonalData.REFUSE:
                self.problems.add(line, f"holds personal data ({label}, {count} times)")


def _label(entity: Entity | None) -> str:
    return "SECRET" if entity is None else LABELS[entity]
