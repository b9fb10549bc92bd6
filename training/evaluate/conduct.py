"""Measures conduct by the project's safety and obedience suites, beside the base."""

from __future__ import annotations

from adapters.domain.evaluations import Suite
from adapters.domain.gate_options import ConductOptions
from training.evaluate.bench import Bench
from training.evaluate.suites import OBEDIENCE, SAFETY


def measure_conduct(bench: Bench, options: ConductOptions) -> None:
    """Raises what `Answers` raises."""
    if options.safety is not None:
        bench.ask(Suite.SAFETY, SAFETY, options.answer_tokens)
    if options.obedience is not None:
        bench.ask(Suite.OBEDIENCE, OBEDIENCE, options.answer_tokens)
