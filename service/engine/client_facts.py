"""Reads from vLLM's engine client what the service has to know: its tokenizer, and which of its
processes this is. Pinned by `tests/contract/test_vllm.py`.
"""

from __future__ import annotations

from copy import copy
from typing import Any

from service.engine.grammars import TokenizerFacts


def tokenizer_facts(client: Any) -> TokenizerFacts | None:
    """The engine's tokenizer, as vLLM hands it to llguidance; None where that is no fast one."""
    tokenizer = client.get_tokenizer()
    backend = copy(getattr(tokenizer, "backend_tokenizer", None))
    if backend is None:
        return None
    backend.no_padding()
    backend.no_truncation()
    return TokenizerFacts(
        tokenizer=backend.to_str(),
        vocabulary=max(client.vllm_config.model_config.get_vocab_size(), len(tokenizer)),
        eos=tokenizer.eos_token_id,
    )


def control_tokens(client: Any) -> list[str]:
    """Texts that the base's tokenizer reads as control tokens wherever they stand."""
    tokenizer = client.get_tokenizer()
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    named = {str(token) for token in tokenizer.all_special_tokens}
    return sorted(named | {str(token.content) for token in added if token.special})


def process_number(client: Any) -> int:
    """Which of the engine's API processes this is, from 0."""
    return int(client.vllm_config.parallel_config._api_process_rank)  # noqa: SLF001 - pinned


def process_count(client: Any) -> int:
    """How many API processes are in front of the engine."""
    return int(client.vllm_config.parallel_config._api_process_count)  # noqa: SLF001 - pinned
