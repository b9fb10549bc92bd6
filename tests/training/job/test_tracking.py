"""Experiment trackers are told of training, and are nobody's trouble but their own."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from adapters.domain.files import TENSORBOARD_FILE
from adapters.domain.jobs import JobStatus
from adapters.domain.principals import SYSTEM
from adapters.errors import InvalidRequest
from tests.training.job.stage import STEPS, Stage, stage
from tests.training.world import World, data, wait_until
from training.finetune.port import Measures
from training.job.pipeline import run_job
from training.job.tensorboard_file import event_file
from training.job.trackers import MlflowRun, ReportTo, WandbRun, open_trackers, report_to
from training.job.tracking import TrackedRun, tracking

RUN = TrackedRun(
    job_id="ftjob-1",
    names={"unit": "support", "adapter": "support", "base": "tiny"},
    recipe={"rank": 8, "scheduler": "cosine"},
)
TOLD = {"MLFLOW_TRACKING_URI": "x", "WANDB_BASE_URL": "x", "WANDB_API_KEY": "x"}


@dataclass
class Recorder:
    """A tracker that remembers what it was told."""

    runs: list[TrackedRun] = field(default_factory=list)
    steps: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)
    failed: bool | None = None

    def open(self, run: TrackedRun) -> Recorder:
        self.runs.append(run)
        return self

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self.steps.append((step, numbers))

    def close(self, *, failed: bool) -> None:
        self.failed = failed


def measures(step: int, valid_loss: float | None = None) -> Measures:
    return Measures(
        step=step,
        total_steps=9,
        train_loss=0.5,
        train_accuracy=0.75,
        valid_loss=valid_loss,
        tokens=900,
        seconds=3.0,
    )


@pytest.fixture
def ready(world: World) -> Stage:
    return stage(world, world.add_queued_job(data(40), data(24, start=100)))


def test_a_job_tells_a_tracker_numbers_and_names_and_nothing_of_its_data(ready: Stage) -> None:
    recorder = Recorder()
    at = ready.with_context(trackers=[recorder.open])
    run_job(at.context, at.job_id, at.fence)
    assert at.world.job(at.job_id).status is JobStatus.SUCCEEDED
    (told,) = recorder.runs
    assert (told.job_id, told.names["unit"], told.recipe["rank"]) == (at.job_id, "support", 16)
    evaluated = [step for step, numbers in recorder.steps if "valid_loss" in numbers]
    assert evaluated == [STEPS // 2, STEPS]
    assert recorder.failed is False
    whole = json.dumps([told.job_id, *told.names.items(), *told.recipe.items(), recorder.steps])
    assert "question" not in whole
    assert "answer" not in whole.replace("valid_answers", "")


def test_a_tracker_that_fails_ends_no_job_and_keeps_no_other_from_being_told() -> None:
    def broken(_run: TrackedRun) -> Recorder:
        raise ConnectionError("a key or an address may stand here")

    recorder = Recorder()
    with tracking([broken, recorder.open], RUN, every=0.0) as take:
        take(measures(1, 0.4))
    assert [step for step, _ in recorder.steps] == [1]


def test_a_step_waits_for_no_tracker_and_a_run_that_failed_is_told_so() -> None:
    may_open, recorder = threading.Event(), Recorder()

    def slow(run: TrackedRun) -> Recorder:
        assert may_open.wait(60.0)
        return recorder.open(run)

    def fail() -> None:
        with tracking([slow], RUN, every=0.0) as take:
            for step in range(1, 8):
                take(measures(step, 0.4 if step == 3 else None))
            may_open.set()
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"):
        fail()
    assert [step for step, _ in recorder.steps] == [3, 7], "evaluations are never left out"
    assert recorder.failed is True
    assert recorder.steps[0][1]["tokens_per_second"] == 300.0


def test_nothing_is_reported_unless_somebody_asks_for_it() -> None:
    assert report_to("", {}) == []
    assert open_trackers([]) == []


def test_what_is_asked_for_is_there_and_told_where_to_send_to() -> None:
    chosen = report_to("wandb, tensorboard,mlflow", TOLD, installed=lambda _: True)
    assert chosen == list(ReportTo)
    assert open_trackers(chosen) == [MlflowRun, WandbRun]


@pytest.mark.parametrize(
    ("asked", "environment", "installed", "said"),
    [
        ("comet", TOLD, True, "`comet` is not one of tensorboard, mlflow, wandb"),
        ("tensorboard", TOLD, False, "pip install 'wardrobe[tensorboard]'"),
        ("mlflow", TOLD, False, "pip install 'wardrobe[mlflow]'"),
        ("mlflow", {}, True, "set MLFLOW_TRACKING_URI too"),
        ("wandb", {"WANDB_API_KEY": "x"}, True, "set WANDB_BASE_URL too"),
        ("wandb", {"WANDB_BASE_URL": "x"}, True, "set WANDB_API_KEY too"),
    ],
)
def test_what_cannot_be_told_is_refused_in_plain_words(
    asked: str, environment: dict[str, str], installed: bool, said: str
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        report_to(asked, environment, installed=lambda _: installed)
    assert said in raised.value.message
    assert "WARDROBE_REPORT_TO" in raised.value.message


def records(content: bytes) -> list[bytes]:
    """The records of a TFRecord file, each with its checksums asked."""
    from tensorboardX.record_writer import masked_crc32c

    found = []
    while content:
        length, checksum = struct.unpack("<QI", content[:12])
        assert checksum == masked_crc32c(content[:8])
        record, (end,) = content[12 : 12 + length], struct.unpack("<I", content[12 + length :][:4])
        assert end == masked_crc32c(record)
        found.append(record)
        content = content[16 + length :]
    return found


def test_tensorboard_finds_each_number_at_its_step() -> None:
    pytest.importorskip("tensorboardX", reason="the extra `tensorboard` is not installed")
    from tensorboardX.proto.event_pb2 import Event

    curve = [{"step": 1, "train_loss": 0.5, "seconds": 2.0}, {"step": 9, "valid_loss": 0.25}]
    first, *events = map(Event.FromString, records(event_file(curve, began=1700.0)))
    assert first.file_version == "brain.Event:2"
    assert [(each.step, each.wall_time) for each in events] == [(1, 1702.0), (9, 1700.0)]
    told = [{value.tag: value.simple_value for value in each.summary.value} for each in events]
    assert told == [{"train_loss": 0.5, "seconds": 2.0}, {"valid_loss": 0.25}]


def test_a_jobs_results_hold_tensorboards_file_where_it_is_asked_for(ready: Stage) -> None:
    pytest.importorskip("tensorboardX", reason="the extra `tensorboard` is not installed")
    at = ready.with_context(tensorboard=True)
    run_job(at.context, at.job_id, at.fence)
    *_, last = at.world.job(at.job_id).result_files
    file = at.world.registry.files.get(last, SYSTEM)
    assert (file.filename, file.purpose) == (TENSORBOARD_FILE, "fine-tune-results")
    with at.world.store.open_file(file.digest) as content:
        assert len(records(content.read())) == 1 + len(
            [step for step in range(1, STEPS + 1) if step % 5 == 0]
        )


def test_mlflow_keeps_one_run_of_a_job_whatever_the_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment is how an operator tells its client where to send to."""
    mlflow = pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for attempt, failed in ((1, True), (2, False)):
        run = MlflowRun(RUN)
        run.log(attempt, {"train_loss": 0.5 / attempt})
        run.close(failed=failed)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("wardrobe")
    (kept,) = client.search_runs([experiment.experiment_id])
    assert (kept.info.run_name, kept.info.status) == ("ftjob-1", "FINISHED")
    assert kept.data.params == {"rank": "8", "scheduler": "cosine"}
    history = client.get_metric_history(kept.info.run_id, "train_loss")
    assert [(each.step, each.value) for each in history] == [(1, 0.5), (2, 0.25)]
    added = {"mlflow.runName"}
    assert set(kept.data.tags) == set(RUN.names) | added, "neither user nor source nor commit"


def test_weights_and_biases_is_given_nothing_of_the_machine(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="the extra `wandb` is not installed")
    run: Any = WandbRun(RUN, mode="offline")
    run.log(1, {"train_loss": 0.5})
    folder = Path(run._run.settings.sync_dir)
    assert not list(folder.rglob("wandb-metadata.json"))
    assert not list(folder.rglob("requirements.txt"))
    run._run.finish()
    (file,) = folder.glob("*.wandb")
    wait_until(lambda: b"support" in file.read_bytes())  # a process of its own writes it
    told = file.read_bytes()
    run._scratch.cleanup()
    for private in (str(Path.cwd()), "pytest"):
        assert private.encode() not in told
