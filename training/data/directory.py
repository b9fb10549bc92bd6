"""Finds the people of a unit's directories: names, addresses and numbers that have no form.

    .csv   the first line names the columns: name, first_name, last_name, email, phone, address,
           location, id; each further line is one person, who gets one pseudonym
    .txt   one name on each line

The longest entry that stands in a text is found, in any case; an entry of a single word only as it
is written in the directory, because many names are words too.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

from adapters.domain.data_policy import Entity
from adapters.errors import InvalidRequest
from training.data.pseudonyms import WORD, folded, subject_of, words_of
from training.data.spans import Span

COLUMNS: Mapping[str, Entity] = MappingProxyType(
    {
        "name": Entity.PERSON,
        "first_name": Entity.PERSON,
        "last_name": Entity.PERSON,
        "email": Entity.EMAIL,
        "phone": Entity.PHONE,
        "address": Entity.LOCATION,
        "location": Entity.LOCATION,
        "id": Entity.ID,
    }
)
MAX_BYTES = 64 * 1024 * 1024
MAX_WORDS = 12
"""Words of one entry."""
_RANK = 100
"""Who is listed is known better than any pattern knows."""
_GAP = 3
"""Characters between two words of an entry in a text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """Words that stand for a person."""

    words: tuple[str, ...]
    entity: Entity
    subject: str
    """The same in all entries of one person."""
    exactly: str | None = None
    """How an entry of one word is written."""


class DirectoryFinder:
    """`Finder` of entries; a text costs the same however many there are."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._by_words: dict[tuple[str, ...], list[Entry]] = {}
        lengths: dict[str, set[int]] = {}
        for entry in entries:
            self._by_words.setdefault(entry.words, []).append(entry)
            lengths.setdefault(entry.words[0], set()).add(len(entry.words))
        self._lengths = {first: sorted(each, reverse=True) for first, each in lengths.items()}

    def find(self, text: str) -> Iterator[Span]:
        """See `Finder.find`."""
        if not self._by_words:
            return
        matches = list(WORD.finditer(text))
        words = [folded(match[0]) for match in matches]
        for at, word in enumerate(words):
            for length in self._lengths.get(word, ()):
                entry = self._entry(tuple(words[at : at + length]), matches[at][0])
                places = [match.span() for match in matches[at : at + length]]
                if entry is not None and _is_one(places):
                    yield Span(
                        start=places[0][0],
                        end=places[-1][1],
                        entity=entry.entity,
                        subject=entry.subject,
                        rank=_RANK + length,
                    )
                    break

    def subjects_of(self, words: tuple[str, ...]) -> set[str]:
        """Under which subjects an entry of these words is known."""
        return {entry.subject for entry in self._by_words.get(words, ())}

    def _entry(self, words: tuple[str, ...], first: str) -> Entry | None:
        """Of those who share these words, the one who is listed first."""
        listed = self._by_words.get(words, ())
        return next((entry for entry in listed if entry.exactly in (None, first)), None)


def read_directory(path: Path) -> Iterator[Entry]:
    """The entries of a directory file.

    Raises InvalidRequest (`invalid_directory`), which names the file and never what it says.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _refused(path, f"is larger than {MAX_BYTES // 1024**2} MiB")
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _people(file) if path.suffix == ".csv" else _names(file)
    except (OSError, ValueError, csv.Error) as error:
        said = error.strerror if isinstance(error, OSError) else "is no such list"
        raise _refused(path, said or "cannot be read") from None


def _names(lines: Iterable[str]) -> Iterator[Entry]:
    for line in lines:
        yield from _entries([(Entity.PERSON, line.strip())])


def _people(lines: Iterable[str]) -> Iterator[Entry]:
    reader = csv.DictReader(lines)
    names = [name.strip().lower() for name in reader.fieldnames or ()]
    reader.fieldnames = names
    if not names or set(names) - COLUMNS.keys():
        raise ValueError("columns")
    for row in reader:
        given = {name: str(row.get(name) or "").strip() for name in names}
        whole = f"{given.pop('first_name', '')} {given.pop('last_name', '')}".strip()
        terms = [(COLUMNS[name], value) for name, value in given.items()]
        yield from _entries([(Entity.PERSON, whole), *terms])


def _entries(terms: Sequence[tuple[Entity, str]]) -> Iterator[Entry]:
    """Every term of one person, and a name of two parts the other way round as well."""
    said = [(entity, value, words_of(value)) for entity, value in terms]
    known = [(entity, value, words) for entity, value, words in said if words]
    if not known:
        return
    first_entity, first_value, _ = known[0]
    subject = subject_of(first_entity, first_value)
    for entity, value, words in known:
        ways = [words, *_the_other_way_round(entity, value)]
        for way in ways:
            if len(way) <= MAX_WORDS:
                exactly = value if len(way) == 1 else None
                yield Entry(words=way, entity=entity, subject=subject, exactly=exactly)


def _the_other_way_round(entity: Entity, value: str) -> list[tuple[str, ...]]:
    """`Groß, Anna` for `Anna Groß`."""
    parts = value.split()
    return [words_of(" ".join(parts[::-1]))] if entity is Entity.PERSON and len(parts) == 2 else []


def _is_one(places: Sequence[tuple[int, int]]) -> bool:
    """Whether words stand so near to each other that they are one entry."""
    return all(after[0] - before[1] <= _GAP for before, after in pairwise(places))


def _refused(path: Path, said: str) -> InvalidRequest:
    return InvalidRequest(
        f"the directory {path.name} of the unit {said}; its columns are {', '.join(COLUMNS)}",
        code="invalid_directory",
    )
