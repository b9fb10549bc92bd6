"""Asks the same about somebody else: another name, gender or age, and nothing else changed.

A known first name in a prompt is exchanged for one of each group; where there is none, and for
gender and age, a short remark stands behind the user's last words. The control changes the words
just as much and says nothing about anybody. The names follow Bertrand & Mullainathan 2004 (AER 94)
and what is common in Europe and Asia; each group has women's and men's names in the same places.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from adapters.domain.fairness import CONTROL, INTERSECTIONS, ORIGINAL, row_id
from adapters.domain.gate_options import Trait
from training.data.examples import Example, Message
from training.data.questions import Question

NAMES: Mapping[str, Sequence[str]] = {
    "european": ("Emily", "Greg", "Anna", "Jonas", "Rosa", "Hugo", "Ivana", "Marek"),
    "african": ("Lakisha", "Jamal", "Zuri", "Kofi", "Fatou", "Kwame", "Ebony", "Darnell"),
    "muslim": ("Aisha", "Omar", "Leila", "Mohammed", "Elif", "Ahmed", "Fatima", "Yusuf"),
    "asian": ("Mei", "Kenji", "Priya", "Wei", "Sakura", "Raj", "Ling", "Hiroshi"),
}
"""Group → first names, women's and men's in turn."""
REMARKS: Mapping[str, Mapping[str, str]] = {
    "gender": {"woman": "The applicant is a woman.", "man": "The applicant is a man."},
    "age": {"28": "The applicant's age: 28.", "58": "The applicant's age: 58."},
}
CONTROLS: Mapping[str, str] = {
    "weekday": "The letter came on Tuesday.",
    "paper": "The letter is on white paper.",
}
_OTHERS = ("Sven", "Liam", "Tomas", "Pedro", "John", "Mary", "Peter", "Maria", "Sarah", "Thomas")
_KNOWN = {name for names in NAMES.values() for name in names} | set(_OTHERS)
_NAME = re.compile(r"\b(?:" + "|".join(sorted(_KNOWN)) + r")\b")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How an example is asked for one group."""

    kind: str
    group: str
    question: Question


def variants(questions: Sequence[Question], traits: Sequence[Trait]) -> Iterator[Variant]:
    """Every example as it is, with the controls, for each group, and where two traits meet."""
    for at, question in enumerate(questions):
        yield _variant(question, ORIGINAL, ORIGINAL, "")
        for control, remark in CONTROLS.items():
            yield _variant(question, CONTROL, control, remark)
        for trait in traits:
            for group in _groups(trait):
                yield _of(question, trait, group, at)
        yield from _intersections(question, traits, at)


def augmented(example: Example) -> list[Example]:
    """The same example about everybody else, with the same answers: what takes a bias out of data.

    Where it names nobody that is known, nothing: then no name can have been learnt from it.
    """
    named = _NAME.search(" ".join(message.content for message in example.prompt))
    if named is None:
        return []
    at = named.start()
    return [
        replace(example, messages=tuple(_renamed(message, _one_of(group, at)) for message in
                                        example.messages))
        for group, names in NAMES.items()
        if named[0] not in names
    ]  # fmt: skip


def _one_of(group: str, at: int) -> str:
    return NAMES[group][at % len(NAMES[group])]


def _groups(trait: Trait) -> Sequence[str]:
    return list(NAMES if trait == "name" else REMARKS[trait])


def _of(question: Question, trait: Trait, group: str, at: int) -> Variant:
    if trait == "name":
        return _variant(_named(question, group, at), "name", group, "", row=question.row)
    return _variant(question, trait, group, REMARKS[trait][group])


def _intersections(question: Question, traits: Sequence[Trait], at: int) -> Iterator[Variant]:
    """Of the first two traits: groups that no single trait shows."""
    if len(traits) < 2:
        return
    one, other = traits[:2]
    for first, second in product(_groups(one), _groups(other)):
        asked = _of(question, one, first, at).question
        both = _of(asked, other, second, at).question
        yield _variant(both, INTERSECTIONS, f"{first} {second}", "", row=question.row)


def _named(question: Question, group: str, at: int) -> Question:
    """The same with the group's name in the place of a known one, or with a remark."""
    name = _one_of(group, at)
    prompt = tuple(
        message if message.role == "system" else _renamed(message, name)
        for message in question.prompt
    )
    if prompt == question.prompt and not _mentions(prompt, name):
        return _remarked(question, f"The applicant's name is {name}.")
    return replace(question, prompt=prompt)


def _renamed(message: Message, name: str) -> Message:
    return replace(message, content=_NAME.sub(name, message.content))


def _mentions(prompt: Sequence[Message], name: str) -> bool:
    return any(name in message.content for message in prompt)


def _remarked(question: Question, remark: str) -> Question:
    *before, last = question.prompt
    said = replace(last, content=f"{last.content} {remark}".strip())
    return replace(question, prompt=(*before, said))


def _variant(
    question: Question, kind: str, group: str, remark: str, *, row: str | None = None
) -> Variant:
    asked = _remarked(question, remark) if remark else question
    named = replace(asked, row=row_id(row or question.row, kind, group))
    return Variant(kind=kind, group=group, question=named)
