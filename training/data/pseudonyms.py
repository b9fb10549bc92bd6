"""Pseudonyms: what stands in the place of personal data, the same wherever the same value stood.

A pseudonym is a keyed digest of the value, so that nobody without the unit's key can tell whose it
is or test a guess; with the key, a person's records are found again by their pseudonym.
"""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections.abc import Mapping
from types import MappingProxyType

from adapters.domain.data_policy import Entity

LABELS: Mapping[Entity, str] = MappingProxyType(
    {
        Entity.EMAIL: "EMAIL",
        Entity.PHONE: "PHONE",
        Entity.CARD: "CARD",
        Entity.IBAN: "IBAN",
        Entity.IP: "IP",
        Entity.SSN: "SSN",
        Entity.PERSON: "PERSON",
        Entity.LOCATION: "LOCATION",
        Entity.ID: "ID",
    }
)
PSEUDONYM = re.compile(rf"\[(?:{'|'.join(LABELS.values())})-[A-Z2-7]{{8}}\]")
"""Every text that `Pseudonyms.of` has written."""
MARK = "[SECRET]"
"""Stands in the place of a secret: those have no use of being told apart."""
_SIGNS = re.compile(r"[^0-9A-Za-z]")
WORD = re.compile(r"[\w\u0300-\u036f]+")


class Pseudonyms:
    """Names one unit's people without telling who they are."""

    def __init__(self, key: bytes) -> None:
        """`key` is the unit's own."""
        self._key = key

    def of(self, entity: Entity, subject: str) -> str:
        """What takes the place of a value; `subject` is what `subject_of` made of it."""
        return f"[{LABELS[entity]}-{self.code(subject)}]"

    def code(self, subject: str) -> str:
        """The part that is the same in all pseudonyms of one subject: 40 bits."""
        digest = hashlib.blake2b(subject.encode(), key=self._key, digest_size=5).digest()
        return base64.b32encode(digest).decode()


def subject_of(entity: Entity, value: str) -> str:
    """A value without what makes no difference to whose it is."""
    if entity in (Entity.PHONE, Entity.CARD, Entity.IBAN, Entity.SSN):
        return _SIGNS.sub("", value).upper()
    return " ".join(words_of(value)) if entity is Entity.PERSON else value.strip().casefold()


def words_of(text: str) -> tuple[str, ...]:
    """A text's words as they are compared: without case, width and signs."""
    return tuple(folded(match[0]) for match in WORD.finditer(text))


def folded(word: str) -> str:
    """A word as it is compared."""
    return unicodedata.normalize("NFKC", word).casefold()
