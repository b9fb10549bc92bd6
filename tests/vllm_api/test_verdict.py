"""What is made of vLLM's own tests before they run, and of their outcomes after."""

from __future__ import annotations

import pytest

from tests.vllm_api.adaptation import adapt
from tests.vllm_api.verdict import LIST, Expected, Outcome, complaints, read_expected

EXPECTED = Expected(
    vllm="1.0",
    left_out={},
    fails={"a.py::test_field": "refused", "a.py::test_many[2]": "refused", "b.py": "no route"},
)
AS_LISTED = [
    Outcome(test="a.py::test_field[x]", outcome="failed"),
    Outcome(test="a.py::test_many[1]", outcome="passed"),
    Outcome(test="a.py::test_many[2]", outcome="failed"),
    Outcome(test="b.py", outcome="failed"),
]


def test_what_fails_as_listed_is_no_complaint() -> None:
    assert complaints(AS_LISTED, EXPECTED) == []


@pytest.mark.parametrize("outcome", ["failed", "skipped"])
def test_what_does_not_pass_and_is_not_listed_is_told_with_its_error(outcome: str) -> None:
    new = Outcome(test="a.py::test_new", outcome=outcome, why="AssertionError")
    told = complaints([*AS_LISTED, new], EXPECTED)
    assert told == [f"{outcome}, and is not on the list: a.py::test_new: AssertionError"]


@pytest.mark.parametrize("test", ["a.py::test_field[y]", "a.py::test_many[2]", "b.py::test_any"])
def test_what_is_listed_and_passes_is_told(test: str) -> None:
    told = complaints([*AS_LISTED, Outcome(test=test, outcome="passed")], EXPECTED)
    assert told == [f"passes, though the list says that it does not: {test}"]


def test_what_is_listed_and_never_ran_is_told_but_of_a_part() -> None:
    assert complaints(AS_LISTED[1:], EXPECTED) == [
        "is on the list, and was not run: a.py::test_field"
    ]
    assert complaints(AS_LISTED[1:], EXPECTED, partial=True) == []


@pytest.mark.parametrize(
    ("tests", "reason"), [('["a.py", "a.py"]', "because"), ('["a.py"]', " ")], ids=["twice", "none"]
)
def test_an_entry_stands_once_and_has_a_reason(tests: str, reason: str) -> None:
    text = f'vllm = "1"\nleft_out = []\n[[fails]]\nreason = "{reason}"\ntests = {tests}\n'
    with pytest.raises(ValueError, match="stands twice or without a reason"):
        read_expected(text)


def test_the_list_can_be_read() -> None:
    assert read_expected(LIST.read_text()).fails


def test_names_of_models_and_adapters_become_ours() -> None:
    theirs = 'MODEL_NAME = "org/model-7b"\nNAMES = [MODEL_NAME, "org/model-7b", "zephyr-lora"]\n'
    ours = 'MODEL_NAME = "wardrobe-base"\nNAMES = [MODEL_NAME, "wardrobe-base", "support"]\n'
    assert adapt(theirs) == ours


def test_a_response_that_names_no_model_names_the_base() -> None:
    theirs = 'client.responses.create(input="x")\nclient.responses.parse(\n    model=None,\n)\n'
    assert adapt(theirs) == (
        'client.responses.create(model="wardrobe-base", input="x")\n'
        'client.responses.parse(\nmodel="wardrobe-base", )\n'
    )
