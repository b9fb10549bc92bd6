"""How good an answer is: exact match, and token F1 for the partly right."""

from __future__ import annotations

import re
from collections import Counter

_TOKEN = re.compile(r"\w+|[^\w\s]")


def exact_match(answer: str, reference: str) -> float:
    """1.0 when the two are the same text but for the spaces around them."""
    return float(answer.strip() == reference.strip())


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over words and signs, case ignored.

    The bag-of-tokens F1 of SQuAD (Rajpurkar et al. 2016, section 6.1); signs count, because
    answers may be JSON.
    """
    said, wanted = _tokens(answer), _tokens(reference)
    if not said or not wanted:
        return float(said == wanted)
    shared = (said & wanted).total()
    if not shared:
        return 0.0
    precision, recall = shared / said.total(), shared / wanted.total()
    return 2 * precision * recall / (precision + recall)


def _tokens(text: str) -> Counter[str]:
    return Counter(_TOKEN.findall(text.casefold()))
