"""The stage that keeps personal data and secrets out of what is learnt.

Each text of an example passes once, prompts and answers alike, before anything of it is written.
What is kept of it are numbers: how many of each kind, in how many examples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.domain.data_policy import DataPolicy, Entity, PersonalData, Secrets
from training.data.directory import DirectoryFinder, read_directory
from training.data.examples import Example
from training.data.jsonl import Problems
from training.data.name_finder import load_names
from training.data.pattern_finder import PatternFinder
from training.data.pseudonyms import LABELS, MARK, Pseudonyms
from training.data.secret_finder import SecretFinder
from training.data.spans import Finder, Span, replaced, without_overlaps


@dataclass(frozen=True, kw_only=True)
class Screen:
    """A unit's policy, ready to be used."""

    policy: DataPolicy
    finders: Sequence[Finder]
    pseudonyms: Pseudonyms

    def spans(self, text: str) -> list[Span]:
        """What the policy knows of a text, in order."""
        return without_overlaps(span for finder in self.finders for span in finder.find(text))


def screen_for(policy: DataPolicy, *, folder: Path, key: bytes) -> Screen:
    """`folder` is where the unit's directories lie, `key` the unit's own.

    Raises InvalidRequest where a directory cannot be read or the model of names is not there.
    """
    finders: list[Finder] = [SecretFinder()]
    if policy.personal_data is not PersonalData.ALLOW:
        listed = (entry for name in policy.directories for entry in read_directory(folder / name))
        finders.append(DirectoryFinder(each for each in listed if each.entity in policy.entities))
        finders.append(PatternFinder(policy.entities, regions=policy.phone_regions))
        if policy.names_model:
            finders.append(load_names(policy.names_model, policy.entities))
    return Screen(policy=policy, finders=finders, pseudonyms=Pseudonyms(key))


@dataclass
class Redaction:
    """One file's way through the screen; counts what it finds, and collects what is refused."""

    screen: Screen
    problems: Problems
    entities: Counter[str] = field(default_factory=Counter)
    examples: int = 0
    """Those in which something was found."""
    _here: Counter[str] = field(default_factory=Counter)

    def screened(self, line: int, example: Example) -> Example:
        """The example as it may be learnt; what is refused is noted under its line."""
        self._here.clear()
        clean = example.with_texts(self._text)
        if self._here:
            self.examples += 1
            self.entities.update(self._here)
            self._refuse(line)
        return clean

    def found(self) -> dict[str, Any]:
        """Numbers for the report."""
        return {"examples": self.examples, "entities": dict(sorted(self.entities.items()))}

    def _text(self, text: str) -> str:
        spans = self.screen.spans(text)
        if not spans:
            return text
        self._here.update(_label(span.entity) for span in spans)
        return replaced(text, ((span, self._instead(span)) for span in spans))

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
