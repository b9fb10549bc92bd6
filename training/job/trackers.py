"""The experiment trackers that there are: MLflow and Weights & Biases, by their own clients.

Each is an extra of the package. Where it sends to is said by the client's own variables, which must
be set: no default leads out of the building.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from importlib.util import find_spec
from typing import Any, Literal

from adapters.errors import InvalidRequest
from training.job.tracking import Open, TrackedRun

PROJECT = "wardrobe"
"""Of runs, where the client's own variable names no other."""


class ReportTo(StrEnum):
    """Where else a training's numbers go."""

    TENSORBOARD = "tensorboard"
    """An event file among the job's results."""
    MLFLOW = "mlflow"
    WANDB = "wandb"


_MODULE = {
    ReportTo.TENSORBOARD: "tensorboardX",
    ReportTo.MLFLOW: "mlflow",
    ReportTo.WANDB: "wandb",
}
_NEEDED = {
    ReportTo.TENSORBOARD: (),
    ReportTo.MLFLOW: ("MLFLOW_TRACKING_URI",),
    ReportTo.WANDB: ("WANDB_BASE_URL", "WANDB_API_KEY"),
}


def report_to(
    text: str,
    environment: Mapping[str, str],
    *,
    installed: Callable[[str], object] = find_spec,
) -> Sequence[ReportTo]:
    """What WARDROBE_REPORT_TO names, by commas. Raises InvalidRequest for what is not known, not
    installed here, or not told where to send to.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if unknown := sorted(set(words) - set(ReportTo)):
        raise InvalidRequest(
            f"WARDROBE_REPORT_TO: `{unknown[0]}` is not one of {', '.join(ReportTo)}"
        )
    chosen = [each for each in ReportTo if each in words]
    for each in chosen:
        if not installed(_MODULE[each]):
            raise InvalidRequest(
                f"WARDROBE_REPORT_TO={each}: its client is not installed beside the trainer "
                f"(`pip install 'wardrobe[{each}]'`)"
            )
        for name in _NEEDED[each]:
            if not environment.get(name):
                raise InvalidRequest(
                    f"WARDROBE_REPORT_TO={each}: set {name} too; nothing is sent anywhere by "
                    "default"
                )
    return chosen


def open_trackers(chosen: Sequence[ReportTo]) -> Sequence[Open]:
    """How runs begin with those that are told while training goes on."""
    known: Mapping[ReportTo, Open] = {
        ReportTo.MLFLOW: MlflowRun,
        ReportTo.WANDB: WandbRun,
    }
    return [known[each] for each in chosen if each in known]


class MlflowRun:
    """A run on the tracking server of MLFLOW_TRACKING_URI."""

    def __init__(self, run: TrackedRun) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient()
        named = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        experiment = self._experiment(named)
        earlier = self._client.search_runs(
            [experiment], filter_string=f"attributes.run_name = '{run.job_id}'", max_results=1
        )
        if earlier:
            self._id = earlier[0].info.run_id
            return
        made = self._client.create_run(experiment, run_name=run.job_id, tags=dict(run.names))
        self._id = made.info.run_id
        params = [Param(name, str(value)) for name, value in run.recipe.items()]
        self._client.log_batch(self._id, params=params)

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """See `Tracker.log`."""
        from mlflow.entities import Metric

        at = int(time.time() * 1000)
        metrics = [Metric(name, value, at, step) for name, value in numbers.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self, *, failed: bool) -> None:
        """See `Tracker.close`."""
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")


class WandbRun:
    """A run on the server of WANDB_BASE_URL, with nothing but what it is given."""

    def __init__(self, run: TrackedRun, *, mode: Literal["online", "offline"] = "online") -> None:
        import wandb

        self._scratch = tempfile.TemporaryDirectory(prefix="wandb-")
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            id=run.job_id,
            name=run.job_id,
            resume="allow",
            mode=mode,
            dir=self._scratch.name,
            config={**run.names, **run.recipe},
            # neither our output nor our code, machine, commit and command line
            settings=wandb.Settings(
                console="off",
                disable_code=True,
                disable_git=True,
                save_code=False,
                silent=True,
                x_disable_machine_info=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """See `Tracker.log`."""
        self._run.log(dict(numbers), step=step)

    def close(self, *, failed: bool) -> None:
        """See `Tracker.close`."""
        self._run.finish(exit_code=int(failed))
        self._scratch.cleanup()
