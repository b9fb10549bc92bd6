"""Compiles callers' schemas in a process of its own, to see what becomes of them.

    python -m service.engine.grammar_compiler

Reads lines of JSON: first `{"tokenizer": …, "vocabulary": …, "eos": …}`, then one schema a line.
Answers each with `{"refused": null}` or a sentence. It does with a schema what the engine will do,
with the same compiler, less memory and less stack: what ends this process ends nothing else, and
what gets through here is far from what would end the engine. Time is this thread's own, so that a
busy machine refuses nothing.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import threading
import time
from typing import Any

import llguidance

from service.engine.grammars import TOO_LARGE

LOOP_SECONDS = 0.25
"""vLLM checks a schema on its event loop, where every stream waits for it. The worst that
`service.gateway.schema_bounds` lets through takes 16 ms of a 2024 server: this is for what it does
not foresee, and far enough away that no slower machine refuses what a faster one takes.
"""
ENGINE_SECONDS = 1.0
"""The engine compiles it on a thread of its own, and makes a mask of it between two steps."""
STACK_BYTES = 1024 * 1024
"""An eighth of what the engine's threads have."""
LONGEST_SECONDS = 2.0
"""Of processor time: a schema that is still at it then ends this process."""
DATA_BYTES = 1024 * 1024 * 1024

REASONS = (
    ("look-around", "a pattern uses look-around, which is not supported"),
    ("backreferences", "a pattern uses a backreference, which is not supported"),
    ("regex parse error", "a pattern is not a regular expression that is supported"),
    ("Unimplemented", "the schema uses a keyword that is not supported"),
    ("oneOf", "`oneOf` is supported only where its members exclude each other; use `anyOf`"),
    ("not disjoint", "`patternProperties` must exclude each other"),
    ("too ", TOO_LARGE),
    ("fuel", TOO_LARGE),
)
"""llguidance's words, and ours for them: its own quote the schema."""


def refusal(error: str) -> str:
    """Why a schema cannot be compiled, in our words."""
    return next(
        (said for word, said in REASONS if word in error),
        "no grammar can be made of the schema",
    )


def grammar_of(schema: str) -> str:
    """The schema as llguidance's compiler takes it, as vLLM hands it over. Raises ValueError."""
    return llguidance.LLMatcher.grammar_from_json_schema(
        schema, defaults={"whitespace_flexible": True}
    )


def compile_schema(tokenizer: Any, schema: str) -> str | None:
    """None where the engine can use it, else why not."""
    started = time.thread_time()
    grammar = grammar_of(schema)
    error = llguidance.LLMatcher.validate_grammar(grammar, None)
    checked = time.thread_time()
    if error:
        return refusal(error)
    matcher = llguidance.LLMatcher(tokenizer, grammar, log_level=0)
    mask = matcher.compute_bitmask()
    compiled = time.thread_time()
    if matcher.is_error() or not any(mask):
        return refusal(matcher.get_error())
    if checked - started > LOOP_SECONDS or compiled - checked > ENGINE_SECONDS:
        return TOO_LARGE
    return None


def serve() -> None:
    """Answers until standard input ends."""
    first = json.loads(sys.stdin.readline())
    tokenizer = llguidance.LLTokenizer(
        first["tokenizer"], n_vocab=first["vocabulary"], eos_token=first["eos"]
    )
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, LONGEST_SECONDS)
        try:
            refused = compile_schema(tokenizer, line)
        except ValueError:
            refused = refusal("")
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps({"refused": refused}), flush=True)


def main() -> None:
    """Runs on a thread, because only a new thread can be given a smaller stack."""
    resource.setrlimit(resource.RLIMIT_DATA, (DATA_BYTES, DATA_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.stack_size(STACK_BYTES)
    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()


if __name__ == "__main__":
    main()
