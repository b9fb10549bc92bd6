"""Fine-tuning jobs with progress bars, fed by nothing but the jobs' own events."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from examples.demo.data import Portion, lines_of
from examples.demo.house import DemoFailed
from service.cli.client import FINISHED, Client

POLL_SECONDS = 1.0
START_SECONDS = 900.0
"""Without news while nobody has begun a job: its trainer is not there."""
STILL_SECONDS = 3600.0
"""Without news of any job: nothing goes on. How long all of it takes is the machine's business."""
BEGUN = "Fine-tuning job started"
WAITING = frozenset({"validating_files", "queued"})
LINE_EVERY = 15.0
"""Seconds between two lines about one job where no bars can be drawn."""


@dataclass
class Lesson:
    """A job being watched, and what its events have told so far."""

    unit: str
    job_id: str
    client: Client
    bar: TaskID
    last_event: str | None = None
    begun: bool = False
    step: int = 0
    total: int = 0
    train_loss: float | None = None
    validation_loss: float | None = None
    finish_at: float | None = None
    message: str = "waiting"
    told_at: float = 0.0
    status: str = "validating_files"
    ended: FineTuningJob | None = None

    def hear(self, event: FineTuningJobEvent) -> None:
        """Keeps the numbers of a metrics event; a validation loss stays until the next."""
        self.last_event = event.id
        if event.type == "message":
            self.message = event.message
            self.begun = self.begun or event.message == BEGUN
        data = event.data if event.type == "metrics" and isinstance(event.data, dict) else {}
        self.step = int(data.get("step", self.step))
        self.total = int(data.get("total_steps", self.total))
        self.train_loss = data.get("train_loss", self.train_loss)
        loss = data.get("full_valid_loss", data.get("valid_loss"))
        self.validation_loss = self.validation_loss if loss is None else loss

    def is_worth_a_line(self, event: FineTuningJobEvent) -> bool:
        """What is told before the first step (how much is learnt, how long it takes), and gates."""
        before = self.begun and not self.total and event.message != BEGUN
        # a type of ours, which the SDK's own types do not know
        return before or str(event.type) == "gate_checks" or event.level != "info"

    def said(self) -> str:
        """`step 40/226  loss 0.71  validation 0.80  1:12 left`; around the training, the news."""
        if self.status == "queued":
            return "queued: the trainer does one job at a time"
        if not self.total or self.step >= self.total:
            return self.message
        words = [f"step {self.step}/{self.total}"]
        if self.train_loss is not None:
            words.append(f"loss {self.train_loss:.2f}")
        if self.validation_loss is not None:
            words.append(f"validation {self.validation_loss:.2f}")
        if self.finish_at:
            minutes, seconds = divmod(max(0, int(self.finish_at - time.time())), 60)
            words.append(f"{minutes}:{seconds:02} left")
        return "  ".join(words)


def start_job(
    client: Client, unit: str, portion: Portion, *, edition: int = 1, further: str | None = None
) -> str:
    """Uploads a portion of the unit's files and starts a job with it; returns its id.

    It trains the base, or the version `further`.
    """
    sdk = client.openai
    n_epochs: Any = portion.further_epochs if further else portion.n_epochs or "auto"
    ids = {}
    for split in ("train", "valid"):
        content = lines_of(unit, split, portion, edition=edition)
        uploaded = sdk.files.create(
            file=(f"{unit}-{edition}-{split}.jsonl", content), purpose="fine-tune"
        )
        ids[split] = uploaded.id
    job = sdk.fine_tuning.jobs.create(
        model=further or client.base_model(),
        training_file=ids["train"],
        validation_file=ids["valid"],
        seed=17,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": n_epochs}}},
        metadata={"demo": "yes"},
    )
    return job.id


def watch(
    console: Console,
    jobs: Mapping[str, tuple[Client, str]],
    *,
    check: Callable[[], None],
    start_seconds: float = START_SECONDS,
) -> dict[str, str]:
    """Unit → (client, job id); returns unit → new version.

    `check` is called every round and raises when waiting is in vain. Raises DemoFailed when a job
    fails, and when nothing is heard of any of them for long.
    """
    heard_at = time.monotonic()
    columns = (
        TextColumn("  {task.fields[unit]:<8}"),
        BarColumn(24),
        TextColumn("{task.fields[said]}"),
    )
    with Progress(*columns, console=console, transient=False) as progress:
        lessons = [
            Lesson(
                unit, job_id, client, progress.add_task("", total=None, unit=unit, said="waiting")
            )
            for unit, (client, job_id) in jobs.items()
        ]
        while any(lesson.ended is None for lesson in lessons):
            check()
            news = [_look(lesson, progress) for lesson in lessons if lesson.ended is None]
            if any(news):
                heard_at = time.monotonic()
            check_news(lessons, time.monotonic() - heard_at, start_seconds)
            time.sleep(POLL_SECONDS)
    return _versions(lessons)


def check_news(lessons: Sequence[Lesson], still: float, start_seconds: float) -> None:
    """`still` is how many seconds nothing was heard. One trainer does one job after another, so
    some may wait as long as one is done.
    """
    if still > start_seconds and all(each.status in WAITING for each in lessons):
        units = ", ".join(each.unit for each in lessons)
        raise DemoFailed(
            f"no trainer has begun the jobs of {units} within {start_seconds:.0f} s; trainer.log "
            "in the logs of the state folder tells more"
        )
    if still > STILL_SECONDS:
        late = ", ".join(each.unit for each in lessons if each.ended is None)
        raise DemoFailed(f"nothing was heard of the jobs of {late} for {still:.0f} s")


def _look(lesson: Lesson, progress: Progress) -> bool:
    """Whether there was news."""
    before = (lesson.status, lesson.last_event)
    job = lesson.client.openai.fine_tuning.jobs.retrieve(lesson.job_id)
    lesson.status, lesson.finish_at = job.status, job.estimated_finish
    for event in lesson.client.events_after(lesson.job_id, lesson.last_event):
        lesson.hear(event)
        if lesson.is_worth_a_line(event):
            progress.console.print(
                f"  [dim]{lesson.unit:<8}[/dim] {event.message}", highlight=False, soft_wrap=True
            )
    said = lesson.said()
    progress.update(lesson.bar, total=lesson.total or None, completed=lesson.step, said=said)
    if not progress.console.is_terminal and time.monotonic() > lesson.told_at:
        lesson.told_at = time.monotonic() + LINE_EVERY
        progress.console.print(f"  {lesson.unit:<8} {said}")
    if job.status in FINISHED:
        lesson.ended = job
    return before != (lesson.status, lesson.last_event)


def _versions(lessons: Sequence[Lesson]) -> dict[str, str]:
    versions = {}
    for lesson in lessons:
        job = lesson.ended
        if job is None or job.status != "succeeded" or not job.fine_tuned_model:
            reason = (
                job.error.message if job and job.error and job.error.message else "no reason given"
            )
            raise DemoFailed(f"the job of {lesson.unit} did not succeed: {reason}")
        versions[lesson.unit] = job.fine_tuned_model
    return versions
