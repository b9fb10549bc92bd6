"""What a trainer's jobs are doing, for Prometheus: read when it is asked for, from files of jobs.

A series of a running job lasts as long as it trains; when jobs ended is told as long as the trainer
lives.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from adapters.domain.jobs import Job, JobStatus
from adapters.domain.names import JobId
from adapters.domain.principals import SYSTEM
from adapters.errors import WardrobeError
from adapters.registry.ports import Jobs
from adapters.state_folder import StateFolder
from training.finetune.port import Measures
from training.job.progress_file import read_progress

_LABELS = ("unit", "adapter")
RUNNING = {
    "wardrobe_training_steps": "Steps that the job has taken.",
    "wardrobe_training_steps_planned": "Steps that it takes where nothing ends it before.",
    "wardrobe_training_loss": "The newest loss, nats; `part` is `train` or `validation`.",
    "wardrobe_training_tokens_per_second": "Read in training so far, evaluations included.",
    "wardrobe_training_memory_bytes": "What the job's process holds: of the GPU, else of memory.",
    "wardrobe_training_seconds_left": "By the pace so far.",
}
ENDED = "wardrobe_training_job_ended_timestamp_seconds"
METRICS = {
    **RUNNING,
    ENDED: "When a job of the adapter last ended so, `code` says why it failed; since 1970.",
}
_MORE_LABELS = {"wardrobe_training_loss": ("part",), ENDED: ("status", "code")}


@dataclass(frozen=True, eq=False)
class TrainingMetrics(Collector):
    """The jobs that run in this trainer's state folder, and those that have ended."""

    jobs: Jobs
    state: StateFolder
    now: Callable[[], float] = time.time
    ended: dict[tuple[str, str, str, str], float] = field(default_factory=dict)

    def note_end(self, job_id: JobId) -> None:
        """After a job was supervised: notes its end, where it has one."""
        try:
            job = self.jobs.get(job_id, SYSTEM)
        except WardrobeError:
            return
        if job.status.finished:
            code = job.error.code if job.error else ""
            self.ended[job.unit, job.adapter, job.status.value, code] = self.now()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """One series of each for a running job; none where the registry cannot be asked."""
        families = {
            name: GaugeMetricFamily(name, what, labels=(*_LABELS, *_MORE_LABELS.get(name, ())))
            for name, what in METRICS.items()
        }
        for job, measures in self._running():
            for name, labels, value in _series(measures):
                families[name].add_metric([job.unit, job.adapter, *labels], value)
        for labels, at in list(self.ended.items()):
            families[ENDED].add_metric(labels, at)
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
        "tokens_per_second": measures.tokens_per_second,
        "memory_bytes": measures.memory_bytes,
        "seconds_left": measures.seconds_left,
    }
    for name, value in told.items():
        if value is not None:
            yield f"wardrobe_training_{name}", (), float(value)
    for part, loss in (("train", measures.train_loss), ("validation", measures.valid_loss)):
        if loss is not None:
            yield "wardrobe_training_loss", (part,), loss


def serve_metrics(port: int, metrics: TrainingMetrics) -> None:
    """Answers scrapes on `port` from a thread, until the process ends. Raises OSError."""
    registry = CollectorRegistry()
    registry.register(metrics)
    start_http_server(port, registry=registry)
