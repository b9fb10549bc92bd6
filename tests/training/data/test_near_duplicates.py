"""Near-duplicates and labels: what training is spared, and what is shown of its spread."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from adapters.domain.data_policy import Balance
from adapters.errors import InvalidFile
from tests.training.data.test_tokenise import rows_of
from training.data.balance import MOST_REPEATS, balanced
from training.data.checked_rows import CheckedRows
from training.data.examples import DataKind
from training.data.learning_curve import curve_of, nested
from training.data.near_duplicates import thin_out
from training.data.split import Split

LONG = "please tell me how many days of holiday I have left in this year before it ends on friday"


def chat_rows(folder: Path, *records: tuple[str, str], **more: Any) -> CheckedRows:
    listed = [{"prompt": asked, "completion": said, **more} for asked, said in records]
    return rows_of(folder, DataKind.CHAT, *listed)


def parts(train: int, validation: int = 0, test: int = 0) -> Split:
    ends = [0, train, train + validation, train + validation + test]
    ranges = [tuple(range(*each)) for each in itertools.pairwise(ends)]
    return Split(train=ranges[0], validation=ranges[1], test=ranges[2], assignments={})


def others(count: int) -> list[tuple[str, str]]:
    return [(f"question {at} about thing {at} and no other", f"answer {at}") for at in range(count)]


def test_of_what_repeats_with_the_same_answer_the_first_stays(tmp_path: Path) -> None:
    rows = chat_rows(
        tmp_path,
        (LONG, "nine"),
        (LONG.replace("please", "Please,") + "!", "Nine"),
        (LONG + " again", "ten"),
        *others(8),
    )
    thinned = thin_out(rows, parts(11), likeness=0.8, min_examples=1)
    assert thinned.parts.train == (0, 2, *range(3, 11))
    assert (thinned.repeated, thinned.contaminating) == (1, 0)
    assert ("info", "Dropped 1 near-duplicates") in thinned.notes


def test_what_asks_almost_what_measures_is_not_trained_on(tmp_path: Path) -> None:
    rows = chat_rows(
        tmp_path, (LONG + " sir", "nine"), *others(9), (LONG, "nine"), (LONG + " ok", "x")
    )
    thinned = thin_out(rows, parts(10, 1, 1), likeness=0.8, min_examples=1)
    assert 0 not in thinned.parts.train
    assert (thinned.parts.validation, thinned.parts.test) == ((10,), (11,))
    assert thinned.contaminating == 1


def test_filled_in_forms_are_not_taken_for_repetitions(tmp_path: Path) -> None:
    rows = chat_rows(tmp_path, *((f"{LONG} {at}", "yes") for at in range(12)))
    thinned = thin_out(rows, parts(12), likeness=0.8, min_examples=1)
    assert len(thinned.parts.train) == 12
    assert thinned.alike
    assert thinned.notes[0][0] == "warn"


def test_too_little_that_differs_is_refused(tmp_path: Path) -> None:
    rows = chat_rows(tmp_path, (LONG, "a"), (LONG + " ok", "a"), *others(3))
    with pytest.raises(InvalidFile, match="only 4 examples neither repeat"):
        thin_out(rows, parts(5), likeness=0.8, min_examples=5)


def test_a_likeness_of_one_looks_for_nothing(tmp_path: Path) -> None:
    rows = chat_rows(tmp_path, (LONG, "a"), (LONG + " ok", "a"), *others(3))
    assert thin_out(rows, parts(5), likeness=1.0, min_examples=1).parts == parts(5)


# -- balance

LABELS = [("yes", 40), ("no", 12), ("maybe", 2)]


def labelled(folder: Path) -> CheckedRows:
    records = [
        {
            "prompt": f"question {label} {at}",
            "completion": label,
            "metadata": {"desk": "bonn" if at % 20 == 0 else "berlin"},
        }
        for label, count in LABELS
        for at in range(count)
    ]
    return rows_of(folder, DataKind.CHAT, *records)


def test_labels_are_counted_and_said_how_to_mend(tmp_path: Path) -> None:
    same, spread = balanced(labelled(tmp_path), parts(54), Balance.OFF)
    assert same == parts(54)
    assert [(each.label, each.examples) for each in spread.labels] == LABELS
    assert sum(each.weight * each.examples for each in spread.labels) == pytest.approx(54, abs=0.1)
    told = " ".join(said for _, said in spread.notes)
    assert "3 labels; the largest has 20 times the examples of the smallest" in told
    assert "One has fewer than 5 examples" in told
    assert "maybe" not in told


def test_rare_labels_are_shown_again_within_a_bound(tmp_path: Path) -> None:
    shown, spread = balanced(labelled(tmp_path), parts(54), Balance.OVERSAMPLE)
    assert [each.shown for each in spread.labels] == [1, 3, MOST_REPEATS]
    assert len(shown.train) == 40 + 12 * 3 + 2 * MOST_REPEATS
    assert set(shown.train) == set(range(54))
    again, _ = balanced(labelled(tmp_path / "again"), parts(54), Balance.OVERSAMPLE)
    assert again == shown, "nothing is drawn"
    facts = spread.as_facts()
    assert facts["policy"] == "oversample"
    assert [each["shown"] for each in facts["labels"]] == [1, 3, MOST_REPEATS]
    told = "Examples of 2 rare labels are shown up to 4 times an epoch (`data.balance: oversample`)"
    assert spread.notes[0] == ("info", told)


def test_the_loss_of_rare_labels_counts_more_within_the_same_bound(tmp_path: Path) -> None:
    same, spread = balanced(labelled(tmp_path), parts(54), Balance.REWEIGHT)
    assert same == parts(54), "nothing is shown twice"
    assert [each.counts for each in spread.labels] == [1.0, 3.333, MOST_REPEATS]
    assert (spread.weights[0], spread.weights[40], spread.weights[53]) == (1.0, 3.333, MOST_REPEATS)
    told = "Examples of 2 rare labels count up to 4 times in the loss (`data.balance: reweight`)"
    assert spread.notes[0] == ("info", told)
    _, shown = balanced(labelled(tmp_path / "again"), parts(54), Balance.OVERSAMPLE)
    assert not shown.weights, "one or the other"


def test_groups_are_counted_with_their_labels(tmp_path: Path) -> None:
    _, spread = balanced(labelled(tmp_path), parts(54), Balance.OFF)
    berlin, bonn = spread.groups
    assert (berlin.value, berlin.examples, bonn.value, bonn.examples) == ("berlin", 50, "bonn", 4)
    assert bonn.labels == {"maybe": 1, "no": 1, "yes": 2}
    assert any("uneven" in said for _, said in spread.notes)


def test_texts_are_no_labels(tmp_path: Path) -> None:
    rows = chat_rows(tmp_path, *((f"q {at}", f"a text of its own {at}") for at in range(30)))
    same, spread = balanced(rows, parts(30), Balance.OVERSAMPLE)
    assert (same, spread.labels) == (parts(30), ())
    ((level, told),) = spread.notes
    assert (level, "`data.balance: oversample` changes nothing" in told) == ("warn", True)
    _, spread = balanced(rows, parts(30), Balance.OFF)
    assert spread.notes == []


# -- learning curve


def test_a_curve_that_follows_a_power_law_is_continued() -> None:
    curve = curve_of([(size, 1 - 2.0 * size**-0.5) for size in (50, 100, 200)], rows=2000)
    assert curve is not None
    assert curve.twice == pytest.approx(1 - 2.0 * 400**-0.5, abs=0.002)
    assert 0.88 < curve.low < curve.twice < curve.high < 0.92
    assert "twice as many (400 examples) would bring it to about 0.90" in curve.as_text()
    assert "no gain" not in curve.as_text()


def test_few_validation_rows_make_a_curve_unsure_and_it_says_so() -> None:
    scores = [(50, 0.5), (100, 0.64), (200, 0.75)]
    few, many = (curve_of(scores, rows=rows) for rows in (10, 1000))
    assert few is not None
    assert many is not None
    assert few.twice == many.twice
    assert few.high - few.low > 4 * (many.high - many.low)
    assert f"(90% interval {few.low:.2f} to {few.high:.2f} on 10 validation rows, so it may be" in (
        few.as_text()
    )
    assert few == curve_of(scores, rows=10), "the same scores are told the same way"


@pytest.mark.parametrize("smaller", [0.5, 0.95, 1.0])
def test_a_score_at_its_ceiling_is_not_continued(smaller: float) -> None:
    curve = curve_of([(50, smaller), (100, 1.0), (200, 1.0)], rows=20)
    assert curve is not None
    told = "would buy nothing that 20 validation rows can measure"
    assert (curve.is_at_ceiling, told in curve.as_text()) == (True, True)
    assert curve.low < 1.0, "all of 20 right is not all"
    below = curve_of([(50, smaller), (100, 1.0), (200, 0.95)], rows=20)
    assert below is not None
    assert not below.is_at_ceiling


def test_a_score_of_tokens_is_at_its_ceiling_where_no_token_is_wrong_not_where_no_row_is() -> None:
    scores = [(50, 0.92), (100, 0.94), (200, 0.96)]
    curve = curve_of(scores, rows=10, tokens=300)
    assert curve is not None
    assert (curve.is_at_ceiling, "the most there is" in curve.as_text()) == (False, False)
    assert curve.twice == pytest.approx(0.971, abs=0.002), "0.96 is no error of half a row"
    told = "on 10 validation rows, not on their 300 tokens, which depend on each other"
    assert told in curve.as_text()
    surer = curve_of(scores, rows=300)
    assert surer is not None
    assert curve.high - curve.low > 2 * (surer.high - surer.low), "a row counts once"
    whole = curve_of([*scores[:2], (200, 1.0)], rows=10, tokens=300)
    assert whole is not None
    assert "buy nothing that 300 tokens of 10 validation rows can measure" in whole.as_text()


def test_a_flat_or_falling_curve_promises_nothing() -> None:
    curve = curve_of([(50, 0.7), (100, 0.7), (200, 0.69)], rows=400)
    assert curve is not None
    assert curve.twice == pytest.approx(0.7, abs=0.01)
    assert "more examples of this kind" in curve.as_text()
    assert curve_of([(50, 0.7), (100, 0.8)], rows=400) is None


def test_smaller_sets_lie_inside_larger_ones() -> None:
    sizes = nested(200, seed=3)
    assert [len(each) for each in sizes] == [50, 100, 200]
    assert set(sizes[0]) < set(sizes[1]) < set(sizes[2])
    assert sizes == nested(200, seed=3)
    assert nested(30, seed=3) == ()
