"""Finds personal data that has a form of its own: addresses, numbers with a check digit, phones.

Presidio's recognisers of these kinds are patterns, check digits and `phonenumbers` too. It lost: by
way of spaCy it imports torch and transformers, 500 MB in every process that reads a file, and its
e-mail recogniser asks the network for a list of domains and lets internal addresses pass. The check
digits are python-stdnum's.

A text is looked at closely only around what could be one, so that a record of plain words costs
microseconds and a long line of digits no more than its length.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from adapters.domain.data_policy import Entity
from training.data.pseudonyms import subject_of
from training.data.spans import Span

_EMAIL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){0,8}")
_CARD = re.compile(r"(?<![\w.+-])\d(?:[ -]?\d){12,18}(?![\w-])")
_IBAN = re.compile(r"(?<!\w)[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]){11,30}(?!\w)")
_IP4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)")
_IP6 = re.compile(r"(?<!\w)\w{0,20}:[\w:.%]{1,60}")
"""What could be one, perhaps behind a word and a colon."""
_SSN = re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")
_DIGITS = re.compile(r"[+(]{0,2}\d(?:[\s().\-/]{0,3}\d){6,17}(?!\d)")
"""What could be a telephone number."""
_AROUND = 12
"""Characters on both sides of it that tell a telephone number from other digits."""
_IBAN_LENGTHS = range(15, 35)


class PatternFinder:
    """`Finder` of these kinds; `regions` are those whose national phone numbers are known."""

    def __init__(self, entities: Collection[Entity], *, regions: Sequence[str]) -> None:
        self._regions = tuple(regions)
        finders: Mapping[Entity, Callable[[str], Iterator[tuple[int, int]]]] = {
            Entity.EMAIL: _emails,
            Entity.IBAN: _ibans,
            Entity.CARD: _cards,
            Entity.SSN: _ssns,
            Entity.IP: _ips,
            Entity.PHONE: self._phones,
        }
        self._finders = {each: find for each, find in finders.items() if each in entities}

    def find(self, text: str) -> Iterator[Span]:
        """See `Finder.find`. The kinds that have check digits come before those that have none."""
        for rank, (entity, find) in enumerate(reversed(self._finders.items()), start=1):
            for start, end in find(text):
                subject = subject_of(entity, text[start:end])
                yield Span(start=start, end=end, entity=entity, subject=subject, rank=rank)

    def _phones(self, text: str) -> Iterator[tuple[int, int]]:
        """By Google's rules of each region. Raises nothing."""
        found = [match.span() for match in _DIGITS.finditer(text)]
        if not found:
            return
        from phonenumbers import Leniency, PhoneNumberMatcher

        for start, end in found:
            begins = max(0, start - _AROUND)
            window = text[begins : end + _AROUND]
            # with its country in front it is one, whether or not that country has given it out
            abroad = "+" in text[start : start + 2]
            leniency = Leniency.POSSIBLE if abroad else Leniency.VALID
            for region in self._regions[:1] if abroad else self._regions:
                for match in PhoneNumberMatcher(window, region, leniency, 100):
                    if match.start + begins >= start:
                        yield begins + match.start, begins + match.end


def _emails(text: str) -> Iterator[tuple[int, int]]:
    """Internal ones too, whose domain nobody outside knows."""
    if "@" in text:
        yield from (match.span() for match in _EMAIL.finditer(text))


def _cards(text: str) -> Iterator[tuple[int, int]]:
    from stdnum import luhn

    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if digits[0] in "23456" and len(set(digits)) > 1 and luhn.is_valid(digits):
            yield match.span()


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    """The longest beginning of what looks like one that has the right check digits."""
    from stdnum import iban

    for match in _IBAN.finditer(text):
        ends = [at for at, sign in enumerate(match[0], start=1) if sign != " "]
        for end in reversed([at for at in ends if _ends_group(match[0], at)]):
            number = match[0][:end].replace(" ", "")
            if len(number) in _IBAN_LENGTHS and iban.is_valid(number, check_country=False):
                yield match.start(), match.start() + end
                break


def _ssns(text: str) -> Iterator[tuple[int, int]]:
    from stdnum.us import ssn

    for match in _SSN.finditer(text):
        if ssn.is_valid(match[0]):
            yield match.span()


def _ips(text: str) -> Iterator[tuple[int, int]]:
    for match in _IP4.finditer(text):
        if _is_address(match[0]):
            yield match.span()
    for match in _IP6.finditer(text):
        if match[0].count(":") < 2:
            continue
        said = match[0].rstrip(".:") or match[0]
        for begins in (0, said.find(":") + 1):
            if _is_address(said[begins:]):
                yield match.start() + begins, match.start() + len(said)
                break


def _is_address(text: str) -> bool:
    try:
        return not ipaddress.ip_address(text).is_unspecified
    except ValueError:
        return False


def _ends_group(text: str, at: int) -> bool:
    return at == len(text) or text[at] == " "
