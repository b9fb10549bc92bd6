"""What a trainer's jobs are doing, for Prometheus: read when it is asked for, from files of jobs.

A series lasts as long as its job runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from adapters.domain.jobs import Job, JobStatus
from adapters.errors import WardrobeError
from adapters.registry.ports import Jobs
from adapters.state_folder import StateFolder
from training.finetune.port import Measures
from training.job.progress_file import read_progress

_LABELS = ("unit", "adapter")
METRICS = {
    "wardrobe_training_steps": "Steps that the job has taken.",
    "wardrobe_training_steps_planned": "Steps that it takes where nothing ends it before.",
    "wardrobe_training_loss": "The newest loss, nats; `part` is `train` or `validation`.",
    "wardrobe_training_tokens_per_second": "Read in training so far, evaluations included.",
    "wardrobe_training_memory_bytes": "What the job's process holds: of the GPU, else of memory.",
    "wardrobe_training_seconds_left": "By the pace so far.",
}


@dataclass(frozen=True)
class RunningJobs(Collector):
    """The jobs that run in this trainer's state folder."""

    jobs: Jobs
    state: StateFolder

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """One series of each for a running job; none where the registry cannot be asked."""
        families = {
            name: GaugeMetricFamily(
                name, what, labels=(*_LABELS, "part") if name.endswith("_loss") else _LABELS
            )
            for name, what in METRICS.items()
        }
        for job, measures in self._running():
            for name, labels, value in _series(measures):
                families[name].add_metric([job.unit, job.adapter, *labels], value)
        return families.values()

    def _running(self) -> Iterator[tuple[Job, Measures]]:
        try:
            running: Sequence[Job] = self.jobs.in_status(JobStatus.RUNNING)
        except WardrobeError:
            return
        for job in running:
            measures = read_progress(self.state.job(job.id))
            if measures is not None:
                yield job, measures


def _series(measures: Measures) -> Iterator[tuple[str, tuple[str, ...], float]]:
    told = {
        "steps": measures.step,
        "steps_planned": measures.total_steps,
        "tokens_per_second": measures.tokens / measures.seconds if measures.seconds else None,
        "memory_bytes": measures.memory_bytes,
        "seconds_left": measures.seconds_left,
    }
    for name, value in told.items():
        if value is not None:
            yield f"wardrobe_training_{name}", (), float(value)
    for part, loss in (("train", measures.train_loss), ("validation", measures.valid_loss)):
        if loss is not None:
            yield "wardrobe_training_loss", (part,), loss


def serve_metrics(port: int, jobs: Jobs, state: StateFolder) -> None:
    """Answers scrapes on `port` from a thread, until the process ends. Raises OSError."""
    registry = CollectorRegistry()
    registry.register(RunningJobs(jobs, state))
    start_http_server(port, registry=registry)
