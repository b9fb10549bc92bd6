"""How good an answer is beside its reference: from 0 to 1, each by one rule."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from typing import Any

_TOKEN = re.compile(r"\w+|[^\w\s]")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_SIGNS = re.compile(r"[^\w\s]")
MAX_DEPTH = 32
"""Of JSON that is compared; what is nested deeper is compared as a whole."""


def exact_match(answer: str, reference: str) -> float:
    """1.0 when the two are the same text but for the spaces around them."""
    return float(answer.strip() == reference.strip())


def normalised_match(answer: str, reference: str) -> float:
    """1.0 when they are the same but for case, width, articles, signs and spaces.

    As SQuAD's exact match (Rajpurkar et al. 2016), with Unicode's compatibility forms.
    """
    return float(normalised(answer) == normalised(reference))


def normalised(text: str) -> str:
    """Words alone. Where nothing but signs is said, the signs."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = " ".join(_ARTICLES.sub(" ", _SIGNS.sub(" ", folded)).split())
    return words or " ".join(folded.split())


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over words and signs, case ignored.

    The bag-of-tokens F1 of SQuAD (Rajpurkar et al. 2016, section 6.1); signs count, because
    answers may be JSON.
    """
    return _f1(_tokens(answer), _tokens(reference))


def json_fields(answer: str, reference: str) -> float:
    """F1 over the fields of two JSON values, each a path and what stands there.

    0.0 where the answer is no JSON; where the reference is none, whether the texts are the same.
    """
    wanted = _fields_of(reference)
    if wanted is None:
        return exact_match(answer, reference)
    said = _fields_of(answer)
    return 0.0 if said is None else _f1(said, wanted)


def _f1(said: Counter[Any], wanted: Counter[Any]) -> float:
    if not said or not wanted:
        return float(said == wanted)
    shared = (said & wanted).total()
    if not shared:
        return 0.0
    precision, recall = shared / said.total(), shared / wanted.total()
    return 2 * precision * recall / (precision + recall)


def _tokens(text: str) -> Counter[str]:
    return Counter(_TOKEN.findall(text.casefold()))


def _fields_of(text: str) -> Counter[tuple[str, str]] | None:
    """None where the text is no JSON."""
    try:
        return Counter(_fields(json.loads(text), "", MAX_DEPTH))
    except (ValueError, RecursionError):
        return None


def _fields(value: Any, path: str, depth: int) -> list[tuple[str, str]]:
    """(path, value) of each leaf; an object or a list that is empty is a leaf too."""
    if depth and isinstance(value, dict) and value:
        return [
            leaf
            for key in value
            for leaf in _fields(value[key], f"{path}.{json.dumps(key)}", depth - 1)
        ]
    if depth and isinstance(value, list) and value:
        return [
            leaf
            for at, one in enumerate(value)
            for leaf in _fields(one, f"{path}[{at}]", depth - 1)
        ]
    return [(path, json.dumps(value, sort_keys=True))]
