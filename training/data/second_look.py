"""A second look at what was screened: counts personal data that is left, and replaces nothing.

It knows other things than the finders that replace: how people are addressed and introduced, what
stands behind words such as `phone`, addresses and numbers that are spelt so that no form fits. It
takes nobody's word: where something was replaced, the finders look once more. What it counts is
compared with the unit's bound by the gate `data`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from adapters.domain.data_policy import Entity
from training.data.examples import Example, Message
from training.data.pseudonyms import LABELS, PSEUDONYM
from training.data.spans import Span

_NO_NAMES = (
    "all alle customer customers colleague colleagues committee desk everybody everyone folks "
    "friend friends guest guys hiring hr it kollege kollegen kunde kundin ladies madam manager "
    "office patient president sales service sir sirs support team the there valued world you"
)
"""Words that stand where a name could and are none."""
_NOBODY = frozenset(_NO_NAMES.split())
_TITLED = re.compile(
    r"(?<!\w)(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Herrn?|Frau|Monsieur|Madame|Mme|Señora?|Sra)\b\.? ?"
    r"(?:(?:Dr|Prof)\.? ?)*(?<=[ .])(?P<found>\w[\w'’-]+)"
)
_INTRODUCED = re.compile(
    r"(?i)(?<!\w)(?:my name is|my name's|ich heiße|mein name ist|je m'appelle|me llamo|mi chiamo"
    r"|(?:full|first|last|family|customer|client|candidate|applicant|patient|employee|contact)"
    r" name:?)\s+(?P<found>\w[\w'’-]+)"
)
_GREETED = re.compile(
    r"(?m)^\W{0,3}(?:Dear|Hi|Hello|Hey|Hallo|Lieber?|Bonjour|Hola|Ciao)"
    r" (?P<found>\w[\w'’-]+)(?: \w[\w'’-]+)?[,!]"
)
_SIGNED = re.compile(
    r"(?im)^\W{0,3}(?:(?:kind|best|warm) )?(?:regards|wishes|sincerely|cheers|(?:mit freundlichen|"
    r"viele|beste|liebe) gr(?:ü|ue)(?:ß|ss)en?|lg|vg)[,.!]?\s*\n\s*"
    r"(?P<found>\w[\w'’-]+)(?: \w[\w'’-]+)?\s*$"
)
_SPELT_EMAIL = re.compile(
    r"(?i)(?<!\w)(?P<found>[\w.+-]{1,64}\s?[(\[{]\s?(?:at|ät)\s?[)\]}]\s?[\w-]{1,63}"
    r"(?:\s?(?:\.|[(\[{]\s?(?:dot|punkt)\s?[)\]}])\s?[\w-]{2,63}){1,4}"
    r"|[\w.+-]{1,64} at [\w-]{1,63} dot [a-z]{2,10})(?!\w)"
)
_CALLED_PHONE = re.compile(
    r"(?i)(?<!\w)(?:tele?(?:fon|phone)?|phone|mobile|mobil|handy|cell|fax|whatsapp|rufnummer"
    r"|durchwahl)(?:[ _]?(?:no|nr|number|nummer))?[\"']?[\s:.=#]{0,4}(?:(?:is|ist|at|unter)\s)?"
    r"[\"']?(?P<found>\+?\(?\d(?:[\s().\-/]{0,2}\d){5,15})(?!\d)"
)
_CALLED_SSN = re.compile(
    r"(?i)(?<!\w)(?:ssn|social security)(?:[ _]?(?:no|number))?[\"']?[\s:.=#]{0,4}(?:is\s)?[\"']?"
    r"(?P<found>\d{3}[ .\-]?\d{2}[ .\-]?\d{4})(?!\d)"
)
_GROUPED_CARD = re.compile(
    r"(?<![\w.])(?P<found>\d{4}(?P<gap>[^\w\n]{1,3})\d{4}(?P=gap)\d{4}(?P=gap)\d{4})(?![\w])"
)
_GROUPED_IBAN = re.compile(
    r"(?i)(?<!\w)(?P<found>[a-z]{2}\d{2}(?P<gap>[^\w\n]{1,3})"
    r"(?:[a-z0-9]{4}(?P=gap)){2,7}[a-z0-9]{1,4})(?!\w)"
)


def _is_name(said: str) -> bool:
    return said[0].isupper() and not said.isupper() and said.casefold() not in _NOBODY


def _is_card(said: str) -> bool:
    from stdnum import luhn

    digits = re.sub(r"\D", "", said)
    return digits[0] in "23456" and len(set(digits)) > 1 and bool(luhn.is_valid(digits))


def _is_iban(said: str) -> bool:
    from stdnum import iban

    return bool(iban.is_valid(re.sub(r"[^0-9A-Za-z]", "", said), check_country=False))


def _anything(_said: str) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class Sign:
    """Words by which personal data of a kind is told, whatever its form."""

    entity: Entity
    pattern: re.Pattern[str]
    holds: Callable[[str], bool] = _anything


SIGNS = (
    Sign(entity=Entity.PERSON, pattern=_TITLED, holds=_is_name),
    Sign(entity=Entity.PERSON, pattern=_INTRODUCED, holds=_is_name),
    Sign(entity=Entity.PERSON, pattern=_GREETED, holds=_is_name),
    Sign(entity=Entity.PERSON, pattern=_SIGNED, holds=_is_name),
    Sign(entity=Entity.EMAIL, pattern=_SPELT_EMAIL),
    Sign(entity=Entity.PHONE, pattern=_CALLED_PHONE),
    Sign(entity=Entity.SSN, pattern=_CALLED_SSN),
    Sign(entity=Entity.CARD, pattern=_GROUPED_CARD, holds=_is_card),
    Sign(entity=Entity.IBAN, pattern=_GROUPED_IBAN, holds=_is_iban),
)


class SecondLook:
    """Looks at examples of one unit."""

    def __init__(
        self,
        spans: Callable[[str], Sequence[Span]],
        entities: frozenset[Entity],
        *,
        everywhere: bool,
    ) -> None:
        """`spans` is the first look; it looks again where it has replaced something, or
        `everywhere`. `entities` are the kinds that the unit looks for.
        """
        self._spans, self._everywhere = spans, everywhere
        self._signs = [sign for sign in SIGNS if sign.entity in entities]

    def left_in(self, example: Example) -> Counter[str]:
        """How many findings of each kind are left, by their labels."""
        left = Counter[str]()
        for text in _texts(example):
            plain = PSEUDONYM.sub("[]", text)
            left.update(LABELS[entity] for entity in self._told(plain))
            if self._everywhere or len(plain) != len(text):
                again = (span.entity for span in self._spans(plain))
                left.update(LABELS[entity] for entity in again if entity is not None)
        return left

    def _told(self, text: str) -> Iterator[Entity]:
        for sign in self._signs:
            for match in sign.pattern.finditer(text):
                if sign.holds(match["found"]):
                    yield sign.entity


def _texts(example: Example) -> Iterator[str]:
    """Everything that is learnt, shown or counted. The arguments of calls as they are written:
    there a number that is no text stands behind the name of what it is.
    """
    rejected = (example.rejected,) if example.rejected else ()
    for message in (*example.messages, *rejected):
        yield from _said(message)
    for tool in example.tools:
        yield str(tool)
    for name, value in example.groups:
        yield f"{name}: {value}"


def _said(message: Message) -> Iterator[str]:
    yield message.content
    yield from (call.arguments for call in message.calls)
