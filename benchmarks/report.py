"""The results for people: tables, with what meets its bound in green."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.null_path import Added
from benchmarks.ratios import Ratio
from benchmarks.side_by_side import Cell

BOUNDS: Mapping[str, tuple[str, float]] = MappingProxyType(
    {
        "throughput_ratio": (">=", 0.98),
        "ttft_p50_ratio": ("<=", 1.03),
        "latency_p50_ratio": ("<=", 1.03),
        "latency_p99_ratio": ("<=", 1.10),
        "added_cpu_us": ("<=", 150.0),
    }
)


def meets(name: str, value: float) -> bool:
    """Whether `value` is within the bound that is set for `name`."""
    sign, bound = BOUNDS[name]
    return value >= bound if sign == ">=" else value <= bound


def print_report(
    cells: Sequence[Cell], added: Sequence[Added], found: Mapping[str, object]
) -> None:
    """Everything `overhead` found out."""
    console = Console()
    console.print(_cells(cells))
    console.print(_request_path(added))
    verdict = Table("worst case", "measured", "bound", title="against the bounds")
    for name, (sign, bound) in BOUNDS.items():
        value = found[name]
        assert isinstance(value, float)  # noqa: S101 - the numbers are
        style = "green" if meets(name, value) else "bold red"
        verdict.add_row(name, Text(f"{value:.3f}", style=style), f"{sign} {bound:g}")
    console.print(verdict)


def _cells(cells: Sequence[Cell]) -> Table:
    table = Table(
        "at once", "req/s bare", "throughput", "latency p50", "p99", "TTFT p50", "requests",
        title="with Wardrobe over without, 95 % intervals",
    )  # fmt: skip
    for cell in cells:
        table.add_row(
            cell.shape.name,
            f"{cell.throughput.bare:.1f}",
            _ratio(cell.throughput),
            _ratio(cell.latency_p50),
            _ratio(cell.latency_p99),
            _ratio(cell.ttft_p50) if cell.ttft_p50 else "-",
            f"2 × {cell.requests}",
        )
    return table


def _request_path(added: Sequence[Added]) -> Table:
    table = Table("request path alone", "added µs", "quartiles", title="CPU time a request")
    for case in added:
        table.add_row(case.case, f"{case.added_us:.0f}", f"{case.low_us:.0f} to {case.high_us:.0f}")
    return table


def _ratio(ratio: Ratio) -> str:
    return f"{ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
