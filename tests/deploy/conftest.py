"""What the chart's tests share: the real Helm library, and a cluster to ask for its kinds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deploy.chart import EVERYTHING, REPLICATED, Chart, Rendered
from tests.deploy.cluster import cluster


@pytest.fixture(scope="session")
def chart() -> Chart:
    return Chart()


@pytest.fixture(scope="session")
def monitored(chart: Chart) -> Iterator[str]:
    """A cluster that knows the Prometheus operator's kinds."""
    with cluster(version="v1.34.2", monitoring=True) as config:
        yield config


@pytest.fixture(scope="session")
def everything(chart: Chart, monitored: str) -> Rendered:
    """The chart with every optional thing switched on, in that cluster."""
    return chart.render(EVERYTHING, config=monitored)


@pytest.fixture(scope="session")
def replicated(chart: Chart, monitored: str) -> Rendered:
    """Several pods of it, in that cluster."""
    return chart.render(REPLICATED, config=monitored)


@pytest.fixture(scope="session")
def defaults(chart: Chart) -> Rendered:
    return chart.render()
