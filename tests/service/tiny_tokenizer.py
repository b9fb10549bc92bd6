"""A tokenizer of single bytes, for tests that compile grammars without an engine."""

from __future__ import annotations

from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from service.engine.grammars import TokenizerFacts

END = "</s>"


@cache
def tiny_tokenizer() -> TokenizerFacts:
    """One token for each byte, and one that ends a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({one: at for at, one in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END])
    size = tokenizer.get_vocab_size()
    return TokenizerFacts(tokenizer=tokenizer.to_str(), vocabulary=size, eos=size - 1)
