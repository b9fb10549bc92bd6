"""The base model's byte-level BPE tokenizer and its chat template, trained on the corpus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from training.base.tool_text import CALL_TEXT, RESULT_TEXT, TOOL_TEXT

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

START, END, PAD = "<|start|>", "<|end|>", "<|pad|>"
ROLES = ("system", "user", "assistant")
SPECIAL = (PAD, START, END, *(f"<|{role}|>" for role in ROLES))

# A space stands before what people say, so that a word is the same token at the start as later;
# none stands before an answer, which must come out of the model exactly as it was taught.
CHAT_TEMPLATE = (
    """\
{{- bos_token -}}
{%- if tools -%}
{{ '<|system|> ' }}"""
    + TOOL_TEXT
    + """{{ eos_token }}
{%- endif -%}
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
<|assistant|>{% generation %}{{ message['content'] or '' }}"""
    + CALL_TEXT
    + """{{ eos_token }}{% endgeneration %}
{%- elif message['role'] == 'tool' -%}
{{ '<|user|> ' }}"""
    + RESULT_TEXT
    + """{{ eos_token }}
{%- elif message['role'] in ['system', 'user'] -%}
{{ '<|' + message['role'] + '|> ' + message['content'] + eos_token }}
{%- else -%}
{{ raise_exception('This model knows the roles system, user, assistant and tool only.') }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
"""
)


def train_tokenizer(texts: Iterable[str], *, vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of exactly `vocabulary` tokens: any text can be written, digit by digit."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=START,
        eos_token=END,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
