"""Which scorers a unit's policy asks for, by name; a unit may bring its own as an entry point.

A package that the operator has installed offers a function `(answer, reference) -> float` from 0 to
1 in the group `wardrobe.scorers`; the unit's policy names it. No request names one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path

from adapters.domain.evaluations import Scorer
from adapters.domain.gates import GatePolicy
from adapters.errors import InvalidRequest
from adapters.hashing import sha256_bytes, sha256_file
from training.data.questions import Question
from training.evaluate.scores import exact_match, json_fields, normalised_match, token_f1
from training.evaluate.sql_scorer import SqlScorer

GROUP = "wardrobe.scorers"
Score = Callable[[str, str], float]
"""(answer, reference) → 0.0 to 1.0."""

ALWAYS: Mapping[Scorer, Score] = {Scorer.EXACT_MATCH: exact_match, Scorer.TOKEN_F1: token_f1}
_BUILT_IN: Mapping[str, Score] = {
    "normalised_match": normalised_match,
    "json_fields": json_fields,
}


def scorers_of(
    policy: GatePolicy, units: Path, questions: Sequence[Question]
) -> dict[Scorer, Score]:
    """What every answer to `questions` is scored by. Raises InvalidRequest (`invalid_scorer`)."""
    found = dict(ALWAYS)
    if policy.scorer in _BUILT_IN:
        found[Scorer(policy.scorer)] = _BUILT_IN[policy.scorer]
    elif policy.scorer == "sql":
        found[Scorer.SQL] = SqlScorer(_database(policy, units))
    elif policy.scorer == "own":
        found[Scorer.OWN] = own_scorer(policy.own_scorer or "")
    elif policy.scorer == "label_f1":
        labels = labels_of(questions)
        found[Scorer.LABEL] = lambda answer, _reference: label(answer, labels)
        found[Scorer.WANTED] = lambda _answer, reference: label(reference, labels)
    return found


def conditions_of(
    policy: GatePolicy, units: Path, questions: Sequence[Question]
) -> dict[str, str | int | float]:
    """What else than the answer a score depends on: other scores may not stand beside it."""
    if policy.scorer == "sql":
        database = _database(policy, units)
        return {"sql": sha256_file(database)} if database.is_file() else {}
    if policy.scorer == "own":
        return {"own": policy.own_scorer or ""}
    if policy.scorer == "label_f1":
        listed = "\n".join(labels_of(questions)).encode()
        return {"labels": sha256_bytes(listed)}
    return {}


def labels_of(questions: Sequence[Question]) -> list[str]:
    """The different references, sorted: what a label's number counts in."""
    return sorted({question.reference.strip() for question in questions})


def label(answer: str, labels: Sequence[str]) -> float:
    """The label's number; -1 where the answer is none of them."""
    said = answer.strip()
    return float(labels.index(said)) if said in labels else -1.0


def own_scorer(name: str) -> Score:
    """The unit's own. Raises InvalidRequest (`invalid_scorer`) where it is not installed."""
    found = [each for each in entry_points(group=GROUP) if each.name == name]
    if len(found) != 1:
        why = "is not installed" if not found else "is installed more than once"
        raise _invalid(f"the scorer `{name}` {why}: packages offer one in the group `{GROUP}`")
    try:
        score = found[0].load()
    except Exception as error:
        raise _invalid(f"the scorer `{name}` cannot be loaded: {type(error).__name__}") from error
    return checked(name, score)


def checked(name: str, score: Callable[[str, str], object]) -> Score:
    """The same, where what it returns is a score. Raises InvalidRequest when it is called."""

    def scored(answer: str, reference: str) -> float:
        try:
            value = score(answer, reference)
        except Exception as error:  # its words may quote an answer
            why = type(error).__name__
            raise _invalid(f"the scorer `{name}` failed on an example: {why}") from None
        if isinstance(value, bool | int | float):
            number = float(value)
            if math.isfinite(number) and 0.0 <= number <= 1.0:
                return number
        raise _invalid(f"the scorer `{name}` gave something that is no number from 0 to 1")

    return scored


def _database(policy: GatePolicy, units: Path) -> Path:
    """The name is a plain file name, checked where the policy is read."""
    return units / str(policy.sql_database)


def _invalid(why: str) -> InvalidRequest:
    return InvalidRequest(why, param="own_scorer", code="invalid_scorer")
