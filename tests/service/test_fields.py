"""Which body fields reach the engine."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.errors import InvalidRequest
from service.fields import ENDPOINTS, MAX_DEPTH, clean

CHAT = ENDPOINTS["/v1/chat/completions"]
COMPLETIONS = ENDPOINTS["/v1/completions"]
MESSAGES = [{"role": "user", "content": "hello"}]


def body(**extra: Any) -> dict[str, Any]:
    return {"model": "support", "messages": MESSAGES, **extra}


@pytest.mark.parametrize(
    "field",
    [
        "prompt_logprobs", "echo", "allowed_token_ids", "chat_template", "chat_template_kwargs",
        "mm_processor_kwargs", "prompt_embeds", "thinking_token_budget", "cache_salt", "priority",
        "kv_transfer_params", "logits_processors", "vllm_xargs", "documents", "request_id",
        "guided_json", "structured_outputs", "return_token_ids", "best_of", "use_beam_search",
    ],
)  # fmt: skip
@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS])
def test_a_field_that_could_hurt_others_is_refused_by_name(endpoint: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        clean(endpoint, {"model": "support", field: 1})
    assert refused.value.param == field
    assert refused.value.reason == "unsupported_parameter"


def test_harmless_fields_of_openai_are_dropped() -> None:
    kept = clean(CHAT, body(user="u1", store=False, metadata={"a": "b"}, temperature=0))
    assert kept == body(temperature=0)


def test_null_fields_are_as_if_not_said() -> None:
    assert clean(CHAT, body(stop=None)) == body()


@pytest.mark.parametrize("wrong", [None, "", 7, ["support"], {}])
def test_a_request_must_name_its_model(wrong: object) -> None:
    with pytest.raises(InvalidRequest, match="model"):
        clean(CHAT, {"model": wrong, "messages": MESSAGES})


@pytest.mark.parametrize("wrong", [[], "text", 3, None])
def test_a_body_that_is_no_object_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidRequest):
        clean(CHAT, wrong)


@pytest.mark.parametrize(
    ("field", "value"), [("n", 17), ("top_logprobs", 21), ("stop", ["x"] * 3000)]
)
def test_counts_are_bounded(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        clean(CHAT, body(**{field: value}))
    assert refused.value.param == field


def test_a_prompt_of_many_texts_is_bounded_but_one_of_many_tokens_is_not() -> None:
    with pytest.raises(InvalidRequest):
        clean(COMPLETIONS, {"model": "support", "prompt": ["x"] * 65})
    assert clean(COMPLETIONS, {"model": "support", "prompt": [5] * 500})["prompt"] == [5] * 500


def test_only_text_reaches_the_engine() -> None:
    picture = [{"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]
    with pytest.raises(InvalidRequest, match="text only"):
        clean(CHAT, body(messages=[{"role": "user", "content": picture}]))


def test_a_deeply_nested_schema_is_refused_without_recursion() -> None:
    schema: dict[str, Any] = {}
    for _ in range(50_000):
        schema = {"properties": schema}
    with pytest.raises(InvalidRequest, match="nested"):
        clean(CHAT, body(response_format=schema))
    shallow: dict[str, Any] = {}
    for _ in range(MAX_DEPTH - 2):
        shallow = {"p": shallow}
    assert clean(CHAT, body(response_format=shallow))
