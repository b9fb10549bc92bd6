"""What Wardrobe costs beside the bare engine.

    python benchmarks/overhead.py            tables, about six minutes on two cores
    python benchmarks/overhead.py --json     no tables

The last line is one JSON object, with the worst case over all cells.

Two measurements (README.md tells how to read them): the same vLLM process with and without the
gateway, side by side, and the CPU time of the request path alone over an application that answers
at once. Exit code 1 when it could not be measured; missing a bound is a result, not an error.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from adapters.logs import configure_logs
from benchmarks import null_path
from benchmarks.machine import machine, versions
from benchmarks.null_path import CHUNKS, Added
from benchmarks.report import BOUNDS, print_report
from benchmarks.side_by_side import Cell, Shape, bench, measure
from benchmarks.stand import StandFailed

_SUMMARY = "What Wardrobe costs beside the bare engine, in time and in CPU."
CONCURRENCY = (1, 8, 32)


def main(words: Sequence[str] | None = None) -> int:
    args = _arguments(words)
    configure_logs("warning")
    about = {"machine": machine(), "versions": versions()}
    shapes = [
        Shape(concurrency=number, stream=stream, tokens=args.tokens)
        for number, stream in itertools.product(args.concurrency, (False, True))
    ]
    try:
        _tell("the request path alone")
        added = null_path.measure()
        _tell("starting the service")
        with bench() as running:
            cells = measure(running, shapes, seconds=args.seconds, tell=_tell)
    except StandFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    found = {**worst(cells, added), **details(cells, added), **about}
    if not args.json:
        print_report(cells, added, found)
    print(json.dumps(found))
    return 0


def worst(cells: Sequence[Cell], added: Sequence[Added]) -> dict[str, float]:
    """The numbers that have bounds, each from the cell where it is worst."""
    by_name = {case.case: case.added_us for case in added}
    longest, shortest = by_name[f"stream of {CHUNKS}"], by_name["stream of 1"]
    return {
        "throughput_ratio": min(cell.throughput.value for cell in cells),
        "ttft_p50_ratio": max(cell.ttft_p50.value for cell in cells if cell.ttft_p50),
        "latency_p50_ratio": max(cell.latency_p50.value for cell in cells),
        "latency_p99_ratio": max(cell.latency_p99.value for cell in cells),
        "added_cpu_us": max(case.added_us for case in added),
        "added_cpu_us_per_chunk": (longest - shortest) / (CHUNKS - 1),
    }


def details(cells: Sequence[Cell], added: Sequence[Added]) -> dict[str, object]:
    """Every cell, its ratios with their intervals, and the bounds."""
    return {
        "bounds": {name: f"{sign} {bound}" for name, (sign, bound) in BOUNDS.items()},
        "cells": [asdict(cell) for cell in cells],
        "request_path": [asdict(case) for case in added],
    }


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="overhead.py", description=_SUMMARY)
    parser.add_argument("--json", action="store_true", help="nothing but the JSON object")
    parser.add_argument(
        "--concurrency", type=_positive, nargs="+", default=CONCURRENCY, metavar="N",
        help="requests at once, one pair of cells each (default: 1 8 32)",
    )  # fmt: skip
    parser.add_argument(
        "--tokens", type=_positive, default=8, help="length of every answer (default: 8)"
    )
    parser.add_argument(
        "--seconds", type=_positive, default=40, help="per cell, both sides together (default: 40)"
    )
    return parser.parse_args(words)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number above 0")
    return int(text)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
