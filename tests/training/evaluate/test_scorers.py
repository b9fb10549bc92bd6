"""Scorers that a policy names: by rules, by what SQL finds, and by a unit's own."""

from __future__ import annotations

import sqlite3
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters.domain.evaluations import Scorer
from adapters.domain.gates import GatePolicy
from adapters.errors import InvalidRequest
from tests.training.evaluate.test_measure import question
from training.evaluate.scorers import (
    checked,
    conditions_of,
    label,
    labels_of,
    own_scorer,
    scorers_of,
)
from training.evaluate.scores import json_fields, normalised_match
from training.evaluate.sql_scorer import (
    MAX_FOUND,
    MAX_ROWS,
    MAX_WRITTEN,
    WRITTEN_BY_THREAD,
    SqlScorer,
    written,
)


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("The Parcel.", "parcel", 1.0),
        ("parcel!", "a  PARCEL", 1.0),
        ("ｐａｒｃｅｌ", "parcel", 1.0),
        ("two parcels", "parcel", 0.0),
        ("...", "!!!", 0.0),
        ("the", "the", 1.0),
    ],
)
def test_normalised_match_looks_at_words_alone(answer: str, reference: str, score: float) -> None:
    assert normalised_match(answer, reference) == score


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ('{"b": 2, "a": 1}', '{"a":1,"b":2}', 1.0),
        ('{"a": 1}', '{"a": 1, "b": 2}', 2 / 3),
        ('{"a": {"x": [1, 2]}}', '{"a": {"x": [1, 3]}}', 0.5),
        ('{"a": 1, "c": 9}', '{"a": 1}', 2 / 3),
        ("no json", '{"a": 1}', 0.0),
        ("[" * 100_000, '{"a": 1}', 0.0),
        ("{}", "{}", 1.0),
        ('{"a": "1"}', '{"a": 1}', 0.0),
        ("text", "text", 1.0),
    ],
)
def test_json_is_compared_field_by_field(answer: str, reference: str, score: float) -> None:
    assert json_fields(answer, reference) == pytest.approx(score)


# -- SQL


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER, city TEXT, euros INTEGER)")
        rows = [(at, ("Bonn", "Rome")[at % 2], at * 10) for at in range(400)]
        connection.executemany("INSERT INTO orders VALUES (?, ?, ?)", rows)
    connection.close()
    return path


REFERENCE = "SELECT city, sum(euros) FROM orders GROUP BY city"


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        (REFERENCE, 1.0),
        ("select city, SUM(euros) from orders group by 1 order by 2 desc", 1.0),
        ("```sql\nSELECT city, total(euros) FROM orders GROUP BY city\n```", 1.0),
        ("SELECT city, count(*) FROM orders GROUP BY city", 0.0),
        ("SELECT nothing FROM orders", 0.0),
        ("", 0.0),
    ],
)
def test_queries_are_compared_by_what_they_find(shop: Path, answer: str, score: float) -> None:
    assert SqlScorer(shop)(answer, REFERENCE) == score


def test_the_order_counts_where_the_reference_asks_for_one(shop: Path) -> None:
    score = SqlScorer(shop)
    ordered = "SELECT id FROM orders ORDER BY id LIMIT 3"
    assert score("SELECT id FROM orders WHERE id < 3 ORDER BY id DESC", ordered) == 0.0
    assert score("SELECT id FROM orders WHERE id < 3 ORDER BY id", ordered) == 1.0


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM orders",
        "DROP TABLE orders",
        "INSERT INTO orders VALUES (1, 'x', 1)",
        "CREATE TEMP TABLE t (a)",
        "ATTACH DATABASE '{other}' AS other",
        "VACUUM INTO '{other}'",
        "PRAGMA writable_schema = 1",
        "PRAGMA table_info(orders)",
        "SELECT load_extension('{other}')",
        "SELECT 1; DELETE FROM orders",
        "WITH RECURSIVE n(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n) SELECT a FROM n",
        "SELECT count(*) FROM orders a, orders b, orders c, orders d",
        "SELECT a.id FROM orders a, orders b",
        "SELECT printf('%.*c', 1000000000, 'x')",
        "SELECT zeroblob(1000000000)",
    ],
)
def test_a_query_can_only_read_and_only_so_much(shop: Path, query: str, tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    before = shop.read_bytes()
    asked = query.replace("{other}", str(other))
    assert SqlScorer(shop)(asked, REFERENCE) == 0.0
    assert shop.read_bytes() == before
    assert not other.exists()


def test_a_reference_that_cannot_be_run_is_compared_as_text(shop: Path) -> None:
    score = SqlScorer(shop)
    assert score("no query", "no query") == 1.0
    assert score("SELECT 1", "no query") == 0.0


def test_as_many_rows_as_are_compared_may_be_found(tmp_path: Path) -> None:
    path = tmp_path / "many.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a INTEGER)")
        connection.executemany("INSERT INTO t VALUES (?)", [(at,) for at in range(MAX_ROWS)])
    connection.close()
    assert SqlScorer(path)("SELECT a + 0 FROM t", "SELECT a FROM t") == 1.0


def test_what_a_query_finds_is_bounded_while_it_is_read(shop: Path) -> None:
    hostile = "SELECT printf('%.60000c', 'x') || a.id || b.id FROM orders a, orders b LIMIT 9000"
    tracemalloc.start()
    try:
        assert SqlScorer(shop)(hostile, hostile) == 1.0, "neither is run: they are compared as text"
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2 * MAX_FOUND


@pytest.mark.skipif(
    not WRITTEN_BY_THREAD.exists(), reason="this kernel does not tell what is written"
)
@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) FROM (SELECT DISTINCT long FROM (%s))",
        "SELECT id FROM (%s) ORDER BY long",
    ],
)
def test_what_a_query_sorts_on_the_disk_is_bounded(shop: Path, query: str) -> None:
    long = "SELECT a.id, printf('%.60000c', 1) || a.id || '-' || b.id long FROM orders a, orders b"
    before = written()
    assert SqlScorer(shop)(query.replace("%s", long), "SELECT 1") == 0.0
    assert MAX_WRITTEN < written() - before < 2 * MAX_WRITTEN


def test_large_values_are_compared_as_long_as_there_are_few(shop: Path) -> None:
    few = "SELECT printf('%.60000c', 'x') || id FROM orders WHERE id < 50"
    assert SqlScorer(shop)(f"{few} ORDER BY id DESC", few) == 1.0


@pytest.mark.parametrize("content", [None, b"no database at all, but long enough to look at"])
def test_a_database_that_is_none_is_said_before_anything_is_asked(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "shop.sqlite"
    if content is not None:
        path.write_bytes(content)
    policy = GatePolicy(scorer="sql", sql_database="shop.sqlite")
    with pytest.raises(InvalidRequest, match="cannot be read as an SQLite database"):
        scorers_of(policy, tmp_path, [])


# -- labels, and a unit's own


def test_labels_are_numbered_as_the_references_are_sorted() -> None:
    labels = labels_of([question(2), question(1), question(2)])
    assert labels == ["secret answer 1", "secret answer 2"]
    assert [label(each, labels) for each in (" secret answer 2\n", "else")] == [1.0, -1.0]


@pytest.mark.parametrize(
    ("policy", "scorers"),
    [
        ({}, set()),
        ({"scorer": "normalised_match"}, {Scorer.NORMALISED_MATCH}),
        ({"scorer": "json_fields"}, {Scorer.JSON_FIELDS}),
        ({"scorer": "label_f1"}, {Scorer.LABEL, Scorer.WANTED}),
        ({"scorer": "sql", "sql_database": "shop.sqlite"}, {Scorer.SQL}),
    ],
)
def test_the_policy_decides_what_answers_are_scored_by(
    shop: Path, policy: dict[str, Any], scorers: set[Scorer]
) -> None:
    found = scorers_of(GatePolicy(**policy), shop.parent, [question(1)])
    assert found.keys() == {Scorer.EXACT_MATCH, Scorer.TOKEN_F1} | scorers


def test_scores_by_another_database_or_other_labels_do_not_stand_side_by_side(shop: Path) -> None:
    policy = GatePolicy(scorer="sql", sql_database="shop.sqlite")
    before = conditions_of(policy, shop.parent, [])
    with sqlite3.connect(shop) as connection:
        connection.execute("DELETE FROM orders")
    connection.close()
    assert conditions_of(policy, shop.parent, []) != before
    labels = GatePolicy(scorer="label_f1")
    assert conditions_of(labels, shop.parent, [question(1)]) != conditions_of(
        labels, shop.parent, [question(2)]
    )


def test_a_scorer_that_is_not_installed_is_named() -> None:
    with pytest.raises(InvalidRequest, match="`mine` is not installed"):
        own_scorer("mine")


def failing(_answer: str, _reference: str) -> float:
    raise RuntimeError("secret words of an answer")


@pytest.mark.parametrize(
    "score", [lambda _a, _r: 1.5, lambda _a, _r: float("nan"), lambda _a, _r: "1", failing]
)
def test_an_own_scorer_must_give_a_number_from_0_to_1_and_its_errors_quote_nobody(
    score: Callable[[str, str], Any],
) -> None:
    with pytest.raises(InvalidRequest, match="the scorer `mine`") as refused:
        checked("mine", score)("secret words of an answer", "b")
    assert "secret words" not in refused.value.message


def test_an_own_scorer_scores() -> None:
    assert checked("mine", lambda answer, reference: answer == reference)("a", "a") == 1.0
