"""The request path over a null application."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.null_path import CASES, CHUNKS, Added
from benchmarks.overhead import worst
from benchmarks.ratios import Ratio
from benchmarks.side_by_side import Cell, Shape


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Enough of a model folder to draw an adapter for."""
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    weights = {"model.layers.0.self_attn.q_proj.weight": np.zeros((16, 8), np.float32)}
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.mark.slow
def test_the_gateway_costs_something_and_every_case_is_measured(base: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.null_path"],
        env={**os.environ, "WARDROBE_BASE": str(base)},
        capture_output=True,
        check=True,
    )
    added = [Added(**case) for case in json.loads(done.stdout)]
    assert [case.case for case in added] == [case.name for case in CASES]
    for case in added:
        assert 1.0 < case.added_us < 5000.0
        assert case.low_us <= case.added_us <= case.high_us


def ratio(value: float) -> Ratio:
    return Ratio(value=value, low=value, high=value, bare=1.0, wardrobe=value)


def cell(*, stream: bool, value: float) -> Cell:
    return Cell(
        shape=Shape(concurrency=1, stream=stream, tokens=16),
        requests=1,
        blocks=1,
        throughput=ratio(2.0 - value),
        latency_p50=ratio(value),
        latency_p99=ratio(value),
        ttft_p50=ratio(value) if stream else None,
    )


def test_the_worst_cell_is_reported() -> None:
    names = ("short prompt", "stream of 1", f"stream of {CHUNKS}")
    added = [
        Added(case=name, bare_us=1.0, added_us=us, low_us=us, high_us=us)
        for name, us in zip(names, (90.0, 40.0, 71.5), strict=True)
    ]
    found = worst([cell(stream=True, value=1.01), cell(stream=False, value=1.2)], added)
    assert found["throughput_ratio"] == pytest.approx(0.8)
    assert found["latency_p99_ratio"] == 1.2
    assert found["ttft_p50_ratio"] == 1.01
    assert found["added_cpu_us"] == 90.0
    assert found["added_cpu_us_per_chunk"] == 0.5
