"""vLLM hands content over as text or as parts: rendering for training decides the same way."""

from __future__ import annotations

import pytest

from tests.training.base.test_chat_templates import NAMES, chat_of

hf = pytest.importorskip("vllm.renderers.hf")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_template_gets_content_in_the_shape_that_vllm_gives_it(name: str) -> None:
    chat = chat_of(name)
    found = hf._detect_content_format(chat.template, default="string")
    assert chat.content_in_parts == (found == "openai")
